// The same LoRA job here and in PyTorch + PEFT, interleaved, each side a fresh process on all cores; medians.
// usage: npm run bench -- [--model DIR] [--rounds 3] [--steps 4] [--only synthetic-2,data] [--out FILE]
// Needs scripts/parity/setup.sh (PEFT) and scripts/fetch_models.py (the model, converted on first use).
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { ggufToHf } from '../dist/index.js';
import { wordnetRows, writeIds } from './data.mjs';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: join(root, '.cache/bench/smollm2-135m') },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '4' },
    only: { type: 'string' },
    out: { type: 'string', default: join(root, 'bench/results/lora.json') },
  },
});
const rounds = Number(args.rounds);
const steps = Number(args.steps);
const python = join(root, '.venv/bin/python');
const gguf = join(root, '.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf');
if (!existsSync(python)) fail('PyTorch + PEFT are not installed; run scripts/parity/setup.sh first');
if (!existsSync(args.model)) {
  if (!existsSync(gguf)) fail('the model is not there; run python3 scripts/fetch_models.py first');
  await ggufToHf(gguf, args.model, { dtype: 'float32' });
}

const model = args.model;
const data = join(root, '.cache/bench/demo-ids.jsonl');
await writeIds(join(root, 'assets/demo/train.jsonl'), data, model);
const short = join(root, '.cache/bench/wordnet-ids.jsonl');
await writeIds(wordnetRows(root).train, short, model);
const cases = [
  ...[1, 2, 8].map((batch) => ({
    name: `synthetic-${batch}`,
    job: { model, mode: 'synthetic', batch, seq: 256, steps },
  })),
  { name: 'data', job: { model, mode: 'data', data, batch: 8, steps: steps * 2 } },
  // One dictionary entry a row. PEFT's side pads in both.
  { name: 'short', job: { model, mode: 'data', data: short, batch: 32, steps: steps * 2 } },
  {
    name: 'short-packed',
    job: { model, mode: 'data', data: short, batch: 32, steps: steps * 2, packing: true },
  },
].filter((c) => !args.only || args.only.split(',').includes(c.name));

const results = {};
for (const { name, job } of cases) {
  results[name] = { lowrank: [], peft: [] };
  for (let round = 0; round < rounds; round++) {
    for (const [side, command, script] of [
      ['lowrank', process.execPath, 'bench/step.mjs'],
      ['peft', python, 'bench/peft/train_peft.py'],
    ]) {
      const { stdout } = await run(command, [join(root, script), JSON.stringify(job)], {
        maxBuffer: 2 ** 24,
      });
      const result = JSON.parse(stdout.trim().split('\n').at(-1));
      for (const key of ['model', 'data']) if (result[key]) result[key] = relative(root, result[key]);
      results[name][side].push(result);
      console.error(`${name} round ${round + 1} ${side}: ${result.tokensPerSecond.toFixed(0)} tokens/s`);
    }
  }
}

const table = Object.entries(results).map(([name, sides]) => summary(name, sides));
mkdirSync(dirname(args.out), { recursive: true });
const machine = { cpu: cpus()[0].model, cores: cpus().length, node: process.version };
writeFileSync(args.out, `${JSON.stringify({ machine, rounds, steps, table, results }, null, 1)}\n`);
console.log(
  '| case | lowrank tokens/s | PEFT tokens/s | ratio | first step s | peak memory GB | share of GEMM peak |',
);
console.log('|---|---|---|---|---|---|---|');
for (const t of table) {
  console.log(
    `| ${t.name} | ${t.tokens[0].toFixed(0)} | ${t.tokens[1].toFixed(0)} | ${t.ratio.toFixed(2)}× | ` +
      `${t.first.map((s) => s.toFixed(1)).join(' · ')} | ${t.rss.map((b) => (b / 1e9).toFixed(2)).join(' · ')} ` +
      `(${(t.rss[0] / t.rss[1]).toFixed(2)}×) | ${t.share ? `${(t.share * 100).toFixed(0)}%` : ''} |`,
  );
}

function summary(name, { lowrank, peft }) {
  const of = (list, key) => median(list.map((r) => r[key]));
  return {
    name,
    tokens: [of(lowrank, 'tokensPerSecond'), of(peft, 'tokensPerSecond')],
    // Of each round's pair, so that the machine's swings cancel.
    ratio: median(lowrank.map((r, i) => r.tokensPerSecond / peft[i].tokensPerSecond)),
    first: [of(lowrank, 'firstStepSeconds'), of(peft, 'firstStepSeconds')],
    rss: [of(lowrank, 'peakRssBytes'), of(peft, 'peakRssBytes')],
    share: lowrank[0].shareOfPeak && of(lowrank, 'shareOfPeak'),
  };
}

/** A prompt/completion set as token ids of this model, so that both sides train on the same tokens. */
function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

function fail(message) {
  console.error(`bench: ${message}`);
  process.exit(1);
}
