// What a quantized base costs and saves: LoRA steps of one model over each format of --quantize, interleaved, each in a process
// of its own; medians. Writes bench/results/quantized.json and the table of docs/quantization.md.
// usage: npm run build && node bench/quantized.mjs [--model DIR] [--rounds 3] [--steps 3] [--only 1x64,2x256] [--sides nf4,int8]
// --only and --sides leave the other rows as they are.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { resolveBase } from '../dist/api/quantizedBase.js';
import { ggufToHf } from '../dist/index.js';
import { wordnetRows, writeIds } from './data.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: join(root, '.cache/bench/smollm2-135m') },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '3' },
    only: { type: 'string' },
    sides: { type: 'string' },
  },
});

const entries = join(root, '.cache/bench/wordnet-ids.jsonl');
/** Rows × tokens, all supervised; and 32 real rows of prompt and completion, in micro-batches of 1,024 tokens. */
const CASES = [
  { name: '1x64', batch: 1, seq: 64 },
  { name: '2x256', batch: 2, seq: 256 },
  { name: '4x256', batch: 4, seq: 256 },
  { name: '32 entries', mode: 'data', data: entries, batch: 32 },
].filter(({ name }) => !args.only || args.only.split(',').includes(name));
/** Bases, and of how many layers only the input is kept, as in QLoRA. The first is what the others are compared with. */
const SIDES = [
  { label: 'float32', base: 'float32' },
  { label: 'float32 checkpointed', base: 'float32', gradientCheckpointing: true },
  { label: 'bfloat16', base: 'bfloat16' },
  { label: 'nf4', base: 'nf4' },
  { label: 'nf4 checkpointed', base: 'nf4', gradientCheckpointing: true },
  { label: 'nf4 22 of 30 checkpointed', base: 'nf4', gradientCheckpointing: true, checkpointedLayers: 22 },
  { label: 'nf4 23 of 30 checkpointed', base: 'nf4', gradientCheckpointing: true, checkpointedLayers: 23 },
  { label: 'int8', base: 'int8' },
  { label: 'int4', base: 'int4' },
].filter(({ label }, i) => i === 0 || !args.sides || args.sides.split(',').includes(label));

const half = `${args.model}-bf16`;
for (const [folder, dtype] of [
  [args.model, 'float32'],
  [half, 'bfloat16'],
]) {
  if (existsSync(folder)) continue;
  await ggufToHf(join(root, '.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf'), folder, { dtype });
}
await writeIds(wordnetRows(root).train, entries, args.model);
const folders = { float32: args.model, bfloat16: half };
for (const base of ['nf4', 'int8', 'int4']) {
  folders[base] = (await resolveBase(half, { quantize: base, onNotice: console.error })).folder;
}

const path = join(root, 'bench/results/quantized.json');
const known =
  (args.only || args.sides) && existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).results : {};
const results = { ...known };
for (const { name, ...shape } of CASES) {
  results[name] = Object.fromEntries(SIDES.map(({ label }) => [label, []]));
  for (let round = 0; round < Number(args.rounds); round++) {
    for (const { label, base, ...checkpointing } of SIDES) {
      const job = {
        model: folders[base],
        mode: 'synthetic',
        ...shape,
        ...checkpointing,
        steps: Number(args.steps),
      };
      const { stdout } = await promisify(execFile)(process.execPath, [
        join(root, 'bench/step.mjs'),
        JSON.stringify(job),
      ]);
      const { stepSeconds, peakRssBytes, firstStepSeconds, loss } = JSON.parse(
        stdout.trim().split('\n').at(-1),
      );
      results[name][label].push({ stepSeconds, peakRssBytes, firstStepSeconds, loss });
      const memory = (peakRssBytes / 1e9).toFixed(2);
      console.error(`${name} round ${round + 1} ${label}: ${stepSeconds.toFixed(2)} s, ${memory} GB`);
    }
  }
}

const rows = Object.entries(results).flatMap(([name, sides]) =>
  Object.keys(sides).map((label) => {
    // Of each round's pair, so that the machine's swings cancel.
    const ratio = (key, invert) =>
      median(sides[label].map((r, i) => (r[key] / sides.float32[i][key]) ** (invert ? -1 : 1))).toFixed(2);
    const of = (key) => median(sides[label].map((r) => r[key]));
    return (
      `| ${name} | ${label} | ${of('stepSeconds').toFixed(2)} | ${ratio('stepSeconds', true)}× | ` +
      `${(of('peakRssBytes') / 1e9).toFixed(2)} | ${ratio('peakRssBytes')}× | ${of('loss').toFixed(3)} |`
    );
  }),
);
const table = [
  '| rows × tokens | base | s a step | speed | peak memory GB | memory | loss |',
  '|---|---|---|---|---|---|---|',
  ...rows,
].join('\n');
console.log(table);
const machine = { cpu: cpus()[0].model, cores: cpus().length, node: process.version };
mkdirSync(dirname(path), { recursive: true });
const { rounds, steps } = args;
const model = relative(root, args.model).split('/').at(-1);
writeFileSync(path, `${JSON.stringify({ machine, model, rounds, steps, results }, null, 1)}\n`);
const page = join(root, 'docs/quantization.md');
const [before, after] = [/(<!-- quantized -->\n)[\s\S]*(<!-- end -->)/, `$1${table}\n$2`];
writeFileSync(page, readFileSync(page, 'utf8').replace(before, after));

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
