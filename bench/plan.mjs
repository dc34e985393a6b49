// Whether the forecast of memory is what training takes: real jobs of the command line, one after the other, each in a process
// of its own, against what train/memory.ts says before. Peaks are the processes' own (the system's maximum resident set; weights
// that two graphs map are counted once).
// Writes the table of docs/plan.md.
// usage: npm run build && node bench/plan.mjs [--model FOLDER of SmolLM2-135M in float32] [--only 1,3]
import { execFile } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { openBase, resolveBase } from '../dist/api/quantizedBase.js';
import { Rng } from '../dist/base/rng.js';
import { methodNamed } from '../dist/methods/index.js';
import { parseModelConfig } from '../dist/models/index.js';
import { describe } from '../dist/models/shape.js';
import { largestMicroBatch, trainingMemory } from '../dist/train/memory.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: join(root, '.cache/bench/smollm2-135m') },
    only: { type: 'string' },
  },
});
const work = mkdtempSync(join(tmpdir(), 'lowrank-plan-'));
process.env.LOWRANK_CACHE = join(work, 'cache');

const small = args.model;
const wide = {
  vocab_size: 8000,
  hidden_size: 1024,
  intermediate_size: 2816,
  num_hidden_layers: 8,
  num_attention_heads: 16,
};
const jobs = [
  { what: 'SmolLM2-135M, LoRA', model: small, length: 256 },
  { what: 'SmolLM2-135M, LoRA, r 64', model: small, length: 1024, batch: 2, options: { r: 64 } },
  { what: 'SmolLM2-135M in nf4, LoRA', model: small, length: 512, quantize: 'nf4', checkpointing: true },
  { what: 'the bundled base, DoRA', model: join(root, 'assets/base'), length: 128, method: 'dora' },
  { what: 'random, 8 layers of 1,024, full', model: () => randomModel(wide), length: 128, method: 'full' },
  {
    what: 'random, 8 layers of 1,024, LoRA',
    model: () => randomModel(wide),
    length: 512,
    tokens: 2048,
    options: { r: 16 },
  },
  {
    what: 'SmolLM2-135M, AdapterH, evaluated',
    model: small,
    length: 128,
    method: 'houlsby',
    evaluated: true,
    tokens: 512,
  },
];

try {
  const lines = [];
  for (const [i, job] of jobs.entries()) {
    if (args.only && !args.only.split(',').includes(String(i + 1))) continue;
    const model = typeof job.model === 'function' ? job.model() : job.model;
    const peak = await measure({ ...job, model });
    const forecast = await predict({ ...job, model });
    // An evaluation has a graph of its own, and the system counts the weights for each of the two that map them.
    const measured = job.evaluated ? peak - forecast.weights : peak;
    const { batch = 8, length, tokens = 1024, checkpointing } = job;
    const cells = [
      job.what,
      `${batch} × ${length}, ${tokens} at once${checkpointing ? ', checkpointed' : ''}`,
      gigabytes(forecast.total),
      gigabytes(measured),
      (forecast.total / measured).toFixed(2),
    ];
    lines.push(`| ${cells.join(' | ')} |`);
    console.error(lines.at(-1), JSON.stringify(forecast));
  }
  const table = [
    '| job | rows × tokens | forecast GB | measured GB | forecast / measured |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
  console.log(table);
  if (!args.only) {
    const page = join(root, 'docs/plan.md');
    const text = readFileSync(page, 'utf8');
    writeFileSync(page, text.replace(/(<!-- measured -->\n)[\s\S]*(<!-- end -->)/, `$1${table}\n$2`));
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function predict({ model, quantize, method: name = 'lora', options = {}, ...job }) {
  const base = await openBase(await resolveBase(model, { quantize }));
  const method = methodNamed(name);
  const config = method.parse('job', options);
  const trainables = method.select(config, base);
  const { batch = 8, length, tokens = 1024, checkpointing = false, evaluated } = job;
  const micro = largestMicroBatch(length - 1, tokens, batch);
  const input = { micro, gradientCheckpointing: checkpointing, ...(evaluated && { evaluated: micro }) };
  return trainingMemory(base, { method, config, trainables }, input);
}

/** The peak of `lowrank train` for two steps, in bytes; a quantized base is made in a process before it. */
async function measure({ model, length, quantize, method = 'lora', options = {}, ...job }) {
  const { batch = 8, tokens = 1024, checkpointing, evaluated } = job;
  const data = rowsOf(length, batch);
  const run = (output, steps, peak) => {
    const hook = `import { writeFileSync } from 'node:fs';
      process.on('exit', () => writeFileSync(${JSON.stringify(peak)}, String(process.resourceUsage().maxRSS)));`;
    const flags = [
      ...['train', '--model', model, '--data', data, '--output', output, '--method', method],
      ...[
        '--max-steps',
        steps,
        '--batch-size',
        batch,
        '--max-length',
        length,
        '--micro-batch-tokens',
        tokens,
      ],
      ...['--loss-on', 'all', '--ignore-memory'],
      ...(quantize ? ['--quantize', quantize] : []),
      ...(checkpointing ? ['--gradient-checkpointing'] : []),
      ...(evaluated ? ['--eval-data', data] : []),
      ...Object.entries(options).flatMap(([key, value]) => [`--${key}`, value]),
    ];
    const main = join(root, 'dist/cli/main.js');
    const preload = `data:text/javascript,${encodeURIComponent(hook)}`;
    return promisify(execFile)(process.execPath, ['--import', preload, main, ...flags.map(String)]);
  };
  const peak = join(work, 'peak');
  const outputs = [join(work, 'first'), join(work, 'second')];
  if (quantize) await run(outputs[0], 1, peak);
  await run(outputs[1], 2, peak);
  for (const output of outputs) rmSync(output, { recursive: true, force: true });
  return 1024 * Number(readFileSync(peak, 'utf8'));
}

/** As many rows of text as a batch has, each longer than it may be. */
function rowsOf(length, rows) {
  const rng = new Rng(1, 'words');
  const word = () =>
    Array.from({ length: 5 }, () => 'abcdefghijklmnopqrstuvwxyz'[Math.floor(26 * rng.uniform())]).join('');
  const path = join(work, 'rows.jsonl');
  const row = () => JSON.stringify({ text: Array.from({ length }, word).join(' ') });
  writeFileSync(path, Array.from({ length: rows }, row).join('\n'));
  return path;
}

/** A Llama of random weights with the bundled tokenizer. */
function randomModel(sizes) {
  const folder = join(work, 'random');
  const config = {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: false,
    bos_token_id: 0,
    eos_token_id: 0,
    ...sizes,
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    writeFileSync(join(folder, file), readFileSync(join(root, 'assets/base', file)));
  }
  const { parameters } = describe(parseModelConfig('random', config));
  const header = {};
  let end = 0;
  for (const [name, shape] of parameters) {
    const start = end;
    end += 4 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: 'F32', shape, data_offsets: [start, end] };
  }
  const text = JSON.stringify(header);
  const padded = text.padEnd(Math.ceil((text.length + 8) / 64) * 64 - 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const file = openSync(join(folder, 'model.safetensors'), 'w');
  writeSync(file, Buffer.concat([length, Buffer.from(padded)]));
  const rng = new Rng(2, 'weights');
  for (const shape of parameters.values()) {
    const bound = shape.length > 1 ? 1 / Math.sqrt(shape[1]) : undefined;
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () =>
      bound === undefined ? 1 : bound * (2 * rng.uniform() - 1),
    );
    writeSync(file, Buffer.from(values.buffer));
  }
  closeSync(file);
  return folder;
}

function gigabytes(bytes) {
  return (bytes / 1e9).toFixed(2);
}
