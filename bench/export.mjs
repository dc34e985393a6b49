// What `lowrank export` writes of a model, and how that computes in transformers.js's engines: size, seconds and memory of the export;
// then for each type, in Node's engine and in that of browsers (WASM, in this Node), how far it is from fp32, how much of one processor's
// time a token or a text takes, and memory.
// usage: npm run build && node bench/export.mjs MODEL [--dtype fp32,q8] [--adapter ADAPTER] [--threads 1]
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dtype: { type: 'string', default: 'fp32,q8' },
    adapter: { type: 'string' },
    threads: { type: 'string', default: '1' },
    /** One measurement, in a process of its own. */
    file: { type: 'string' },
    engine: { type: 'string' },
    at: { type: 'string' },
  },
});
const NEW_TOKENS = 24;
const MAX_PROMPT = 128;
/** Texts in the place of a text that the model knows: every model has read an encyclopedia. */
const TEXTS = [
  'The history of the bicycle begins in the nineteenth century. In 1817 a German baron built a wooden machine with two wheels in a ' +
    'line, which a rider pushed along with his feet. Later makers added cranks and pedals to the front wheel, and the wheel grew larger ' +
    'and larger because each turn of the pedals moved the rider farther. The chain drive ended that race: with it both wheels could be ' +
    'of one size, and riders sat low and safe between them. Rubber tyres filled with air took away most of the shaking.',
  ...readFileSync(join(root, 'docs/lora.md'), 'utf8')
    .split('\n')
    .filter((line) => line.length > 60)
    .slice(0, 60),
];

if (args.file) await measure();
else await all();

async function all() {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-export-'));
  try {
    const output = join(folder, 'model');
    const more = args.adapter ? ['--adapter', args.adapter] : [];
    const { loadModel } = await import('../dist/index.js');
    // Its tokens; a GGUF file is converted now, not while the export is timed.
    const model = await loadModel(positionals[0]);
    const rows = TEXTS.map((text) => [...model.tokenizer.encodeWhole(text).ids].slice(0, MAX_PROMPT));
    await model.close();
    writeFileSync(join(folder, 'rows.json'), JSON.stringify(rows));
    for (const dtype of args.dtype.split(',')) {
      const { seconds, bytes } = timed([
        join(root, 'dist/cli/main.js'),
        ...['export', positionals[0], ...more, '--output', output, '--dtype', dtype, '--overwrite'],
      ]);
      const file = { fp32: 'model.onnx', fp16: 'model_fp16.onnx', q8: 'model_quantized.onnx' }[dtype];
      const size = statSync(join(output, 'onnx', file)).size;
      console.log(`${dtype}: ${mb(size)} in ${seconds.toFixed(1)} s, ${mb(bytes)} of memory at most`);
      for (const engine of ['node', 'wasm']) {
        const given = ['--file', file, '--engine', engine, '--at', folder, '--threads', args.threads];
        const { stdout, bytes } = timed([fileURLToPath(import.meta.url), ...given]);
        console.log(`  ${engine}: ${stdout.trim()}, ${mb(bytes)} of memory at most`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Runs a script of Node's in a process of its own; the most memory that was resident. */
function timed(argv) {
  const hook =
    'data:text/javascript,process.on("exit",()=>process.stderr.write("\\nKB "+process.resourceUsage().maxRSS))';
  const start = performance.now();
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', hook, ...argv], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return {
    seconds: (performance.now() - start) / 1000,
    stdout,
    bytes: Number(/KB (\d+)/.exec(stderr)[1]) * 1024,
  };
}

/** Of one processor, for each of n. */
function milliseconds(start, n) {
  const { user, system } = process.cpuUsage(start);
  return `${((user + system) / 1000 / n).toFixed(0)} ms`;
}

function mb(bytes) {
  return `${Math.round(bytes / 1e6)} MB`;
}

/** Loads one file into one engine, runs it, and prints what came out. */
async function measure() {
  const from = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'));
  const isWasm = args.engine === 'wasm';
  const ort = isWasm
    ? await import(from.resolve('onnxruntime-web'))
    : (await import(from.resolve('onnxruntime-node'))).default;
  if (isWasm) ort.env.wasm.numThreads = Number(args.threads);
  const path = join(args.at, 'model/onnx', args.file);
  const session = await ort.InferenceSession.create(isWasm ? readFileSync(path) : path, {
    executionProviders: [isWasm ? 'wasm' : 'cpu'],
    ...(!isWasm && { intraOpNumThreads: Number(args.threads) }),
  });
  const int64 = (values, dims) => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), dims);
  const rows = JSON.parse(readFileSync(join(args.at, 'rows.json'), 'utf8'));
  const isDecoder = session.outputNames.includes('logits');
  const step = (ids, past, total, kept) => {
    const shape = [1, ids.length];
    const given = {
      input_ids: int64(ids, shape),
      attention_mask: int64(Array(total).fill(1), [1, total]),
      token_type_ids: int64(
        ids.map(() => 0),
        shape,
      ),
      num_logits_to_keep: int64([kept], []),
    };
    const feeds = session.inputMetadata.map(({ name, shape: dims }) => {
      if (name in given) return [name, given[name]];
      const empty = () =>
        new ort.Tensor(
          'float32',
          new Float32Array(0),
          dims.map((d, i) => (i === 0 ? 1 : typeof d === 'number' ? d : 0)),
        );
      return [name, past?.[name.replace('past_key_values', 'present')] ?? empty()];
    });
    return session.run(Object.fromEntries(feeds));
  };
  const told = isDecoder ? await decode(step, rows[0]) : await embed(step, rows);
  console.log(told);
}

async function decode(step, ids) {
  let out = await step(ids, undefined, ids.length, 0);
  const [, , vocab] = out.logits.dims;
  const told = compared(out.logits.data.slice(), vocab);
  let total = ids.length;
  const start = process.cpuUsage();
  for (let i = 0; i < NEW_TOKENS; i++) {
    const last = out.logits.data.subarray(-vocab);
    total++;
    out = await step([last.indexOf(last.reduce((a, b) => Math.max(a, b)))], out, total, 1);
  }
  return `${told}${milliseconds(start, NEW_TOKENS)} a token`;
}

/** How logits are from those of fp32 in Node's engine, which come first and are kept. */
function compared(logits, vocab) {
  const kept = join(args.at, 'reference.bin');
  if (args.file === 'model.onnx' && args.engine === 'node') {
    writeFileSync(kept, new Uint8Array(logits.buffer));
    return '';
  }
  const wanted = new Float32Array(new Uint8Array(readFileSync(kept)).buffer);
  let [most, divergence, same] = [0, 0, 0];
  const n = logits.length / vocab;
  for (let row = 0; row < n; row++) {
    const [p, q] = [wanted, logits].map((all) => logSoftmax(all.subarray(row * vocab, (row + 1) * vocab)));
    p.forEach((v, i) => {
      divergence += (Math.exp(v) * (v - q[i])) / n;
      most = Math.max(most, Math.abs(wanted[row * vocab + i] - logits[row * vocab + i]));
    });
    if (top(p) === top(q)) same += 1 / n;
  }
  return `logits differ by ${most.toPrecision(2)} at most, KL ${divergence.toPrecision(2)}, same best token ${(100 * same).toFixed(1)}%, `;
}

function top(values) {
  return values.indexOf(values.reduce((a, b) => Math.max(a, b)));
}

function logSoftmax(row) {
  const most = row.reduce((a, b) => Math.max(a, b));
  const sum = row.reduce((a, v) => a + Math.exp(v - most), 0);
  return Float64Array.from(row, (v) => v - most - Math.log(sum));
}

async function embed(step, rows) {
  const vectors = [];
  let time;
  // The first round warms up.
  for (const round of [0, 1]) {
    const start = process.cpuUsage();
    for (const ids of rows) {
      const { dims, data } = (await step(ids, undefined, ids.length, 0)).last_hidden_state;
      const mean = Float64Array.from({ length: dims[2] }, (_, j) => {
        let sum = 0;
        for (let i = 0; i < ids.length; i++) sum += data[i * dims[2] + j];
        return sum;
      });
      const norm = Math.hypot(...mean);
      if (round === 0) vectors.push(Array.from(mean, (v) => v / norm));
    }
    time = milliseconds(start, rows.length);
  }
  const kept = join(args.at, 'reference.json');
  const isReference = args.file === 'model.onnx' && args.engine === 'node';
  if (isReference) writeFileSync(kept, JSON.stringify(vectors));
  const wanted = JSON.parse(readFileSync(kept, 'utf8'));
  const cosines = vectors.map((v, i) => v.reduce((sum, x, j) => sum + x * wanted[i][j], 0));
  const told = isReference
    ? ''
    : `cosine of mean embeddings ${(cosines.reduce((a, b) => a + b) / cosines.length).toFixed(5)}, ${Math.min(...cosines).toFixed(5)} at least, `;
  return `${told}${time} a text`;
}
