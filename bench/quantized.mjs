// What a quantized base costs and saves: LoRA steps of one model over each format of --base, interleaved, each in a process
// of its own; medians. Writes bench/results/quantized.json and the table of docs/quantization.md.
// usage: npm run build && node bench/quantized.mjs [--model DIR] [--rounds 3] [--steps 3] [--only 1x64,2x256]
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { resolveBase } from '../dist/api/quantize.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: join(root, '.cache/bench/smollm2-135m') },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '3' },
    only: { type: 'string' },
  },
});

/** Rows × tokens, all supervised, and whether layers keep their input only. */
const CASES = [
  { name: '1x64', batch: 1, seq: 64 },
  { name: '2x256', batch: 2, seq: 256 },
  { name: '2x256 checkpointed', batch: 2, seq: 256, gradientCheckpointing: true },
].filter(({ name }) => !args.only || args.only.split(',').includes(name));
const FORMATS = ['float32', 'nf4', 'int8', 'int4'];

const folders = {};
for (const format of FORMATS) {
  const base = format === 'float32' ? undefined : format;
  folders[format] = (await resolveBase(args.model, { base, onNotice: console.error })).folder;
}

const results = {};
for (const { name, ...shape } of CASES) {
  results[name] = Object.fromEntries(FORMATS.map((format) => [format, []]));
  for (let round = 0; round < Number(args.rounds); round++) {
    for (const format of FORMATS) {
      const job = { model: folders[format], mode: 'synthetic', ...shape, steps: Number(args.steps) };
      const { stdout } = await promisify(execFile)(process.execPath, [
        join(root, 'bench/step.mjs'),
        JSON.stringify(job),
      ]);
      const { stepSeconds, peakRssBytes, firstStepSeconds, loss } = JSON.parse(
        stdout.trim().split('\n').at(-1),
      );
      results[name][format].push({ stepSeconds, peakRssBytes, firstStepSeconds, loss });
      const memory = (peakRssBytes / 1e9).toFixed(2);
      console.error(`${name} round ${round + 1} ${format}: ${stepSeconds.toFixed(2)} s, ${memory} GB`);
    }
  }
}

const rows = Object.entries(results).flatMap(([name, sides]) =>
  FORMATS.map((format) => {
    // Of each round's pair, so that the machine's swings cancel.
    const ratio = (key, invert) =>
      median(sides[format].map((r, i) => (r[key] / sides.float32[i][key]) ** (invert ? -1 : 1))).toFixed(2);
    const of = (key) => median(sides[format].map((r) => r[key]));
    return (
      `| ${name} | ${format} | ${of('stepSeconds').toFixed(2)} | ${ratio('stepSeconds', true)}× | ` +
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
const path = join(root, 'bench/results/quantized.json');
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
