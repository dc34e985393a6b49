// Every method on one real model and real rows: held-out loss, trainable parameters, speed and memory, each in a process
// of its own. Writes bench/results/methods.json and the table of docs/results.md.
// usage: npm run bench:methods -- [--model DIR] [--steps 20] [--only lora,dora]
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { ggufToHf, loadModel } from '../dist/index.js';
import { methods } from '../dist/methods/index.js';
import { wordnetRows } from './data.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: join(root, '.cache/bench/smollm2-135m') },
    steps: { type: 'string', default: '20' },
    only: { type: 'string' },
    child: { type: 'string' },
  },
});

/** What each method runs with, where it is not LoRA's: one learning rate for all would compare nothing. */
const LORA = { r: 8, loraAlpha: 16, targetModules: 'all-linear' };
const TARGETS = { targetModules: 'all-linear' };
const SETTINGS = {
  lora: { rate: 1e-3, options: LORA },
  loraplus: { rate: 2e-4, options: LORA },
  lorafa: { rate: 2e-3, options: LORA },
  dora: { rate: 1e-3, options: LORA },
  pissa: { rate: 2e-4, options: { r: 8, loraAlpha: 8, ...TARGETS } },
  olora: { rate: 2e-4, options: { r: 8, loraAlpha: 8, ...TARGETS } },
  loftq: { rate: 1e-3, options: LORA },
  adalora: {
    rate: 2e-3,
    options: { initR: 12, targetR: 8, loraAlpha: 16, tinit: 2, tfinal: 6, ...TARGETS },
  },
  vera: { rate: 2e-2, options: { r: 256, ...TARGETS } },
  bitfit: { rate: 1e-3 },
  full: { rate: 5e-5 },
  houlsby: { rate: 1e-3 },
  lin: { rate: 1e-3 },
  pfeiffer: { rate: 1e-3 },
  prompt: { rate: 3e-1 },
  prefix: { rate: 1e-2 },
};
const DOC = 'docs/results.md';
const HEADER =
  '| method | trainable | held-out loss before | after | tokens/s | peak memory GB | load s |\n|---|---|---|---|---|---|---|';

/** Methods over a quantized base, and with ranks or the start chosen by the data. */
const VARIANTS = [
  { label: 'lora --r auto', method: 'lora', auto: true },
  { label: 'lora --init-lora-weights eva', method: 'lora', eva: true },
  { label: 'lora --quantize nf4', method: 'lora', quantize: 'nf4' },
  // QLoRA as its paper and PEFT run it.
  {
    label: 'lora --quantize nf4 --gradient-checkpointing',
    method: 'lora',
    quantize: 'nf4',
    gradientCheckpointing: true,
  },
  { label: 'dora --quantize nf4', method: 'dora', quantize: 'nf4' },
  { label: 'loftq --quantize nf4', method: 'loftq', quantize: 'nf4' },
];

if (args.child) {
  console.log(JSON.stringify(await measure(JSON.parse(args.child))));
} else {
  await compare();
}

async function compare() {
  if (!existsSync(args.model)) {
    const gguf = join(root, '.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf');
    await ggufToHf(gguf, args.model, { dtype: 'float32' });
  }
  wordnetRows(root);
  const runs = [...Object.keys(methods).map((method) => ({ label: method, method })), ...VARIANTS].filter(
    ({ label }) => !args.only || args.only.split(',').includes(label),
  );
  const path = join(root, 'bench/results/methods.json');
  const results = args.only && existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).results : {};
  for (const run of runs) {
    if (!SETTINGS[run.method]) throw new Error(`${run.method} has no settings in bench/methods.mjs`);
    const job = {
      options: {},
      ...SETTINGS[run.method],
      ...run,
      model: args.model,
      steps: Number(args.steps),
    };
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [
      fileURLToPath(import.meta.url),
      '--child',
      JSON.stringify(job),
    ]).catch((error) => error);
    results[run.label] = stdout ? JSON.parse(stdout.trim().split('\n').at(-1)) : { refused: stderr.trim() };
    console.error(row(run.label, results[run.label]));
    // Each time, so that a long run that is cut off leaves what it measured.
    write(path, results);
  }
}

function write(path, results) {
  mkdirSync(dirname(path), { recursive: true });
  const machine = { cpu: cpus()[0].model, cores: cpus().length, node: process.version };
  writeFileSync(path, `${JSON.stringify({ machine, steps: Number(args.steps), results }, null, 1)}\n`);
  const table = [HEADER, ...Object.entries(results).map(([label, r]) => row(label, r))].join('\n');
  const page = join(root, DOC);
  writeFileSync(
    page,
    readFileSync(page, 'utf8').replace(/(<!-- table -->\n)[\s\S]*(<!-- end -->)/, `$1${table}\n$2`),
  );
}

function row(label, r) {
  if (r.refused) return `| ${label} | ${r.refused} | | | | | |`;
  return `| ${label} | ${r.trainable.toLocaleString('en')} | ${r.before.toFixed(3)} | ${r.after.toFixed(3)} | ${r.tokensPerSecond.toFixed(0)} | ${(r.peakRssBytes / 1e9).toFixed(2)} | ${r.loadSeconds.toFixed(1)} |`;
}

/** One run, in the child process. */
async function measure({
  model: path,
  method,
  options,
  rate,
  quantize,
  auto,
  eva,
  gradientCheckpointing,
  steps,
}) {
  const started = performance.now();
  const model = await loadModel(path, quantize ? { quantize } : {});
  const rows = wordnetRows(root);
  const job = {
    data: rows.train,
    evalData: rows.eval,
    learningRate: rate,
    maxSteps: steps,
    gradientCheckpointing,
    warmupRatio: 0.1,
    seed: 1,
  };
  try {
    const plan = auto
      ? await model.planRanks(method, options, job)
      : eva && (await model.planEva(method, options, job));
    await model.addMethod(method, plan ? plan.config : options, { seed: 1, starts: plan?.starts });
  } catch (error) {
    return { refused: error.message };
  }
  const result = { trainable: model.parameters.trainable };
  const speeds = [];
  for await (const event of model.train(job)) {
    if (event.kind === 'start') result.loadSeconds = (performance.now() - started) / 1000;
    if (event.kind === 'eval') result[event.step === 0 ? 'before' : 'after'] = event.loss;
    if (event.kind === 'step' && event.step > 1) speeds.push(event.tokensPerSecond);
  }
  speeds.sort((a, b) => a - b);
  await model.close();
  return {
    ...result,
    tokensPerSecond: speeds[speeds.length >> 1],
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}
