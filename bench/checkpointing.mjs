// What gradient checkpointing costs in time and saves in memory: LoRA on one model, the same steps with and without it,
// interleaved, each in a process of its own; medians. Time is the processor's, of one thread, so that other work on the
// machine matters little. Writes bench/results/checkpointing.json and the table of docs/memory.md.
// usage: npm run build && node bench/checkpointing.mjs [--model DIR] [--rounds 3] [--steps 2] [--tokens 1024,2048,4096]
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { NodeRuntime } from '../dist/graph/runtime/node.js';
import { createAdapter } from '../dist/methods/adapter.js';
import { methodNamed } from '../dist/methods/index.js';
import { openModel } from '../dist/models/base.js';
import { TrainStep } from '../dist/train/step.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: join(root, '.cache/bench/smollm2-135m') },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '2' },
    tokens: { type: 'string', default: '1024,2048,4096' },
    child: { type: 'string' },
  },
});
const LENGTH = 512;

if (args.child) console.log(JSON.stringify(await measure(JSON.parse(args.child))));
else await compare();

async function compare() {
  const table = [];
  for (const tokens of args.tokens.split(',').map(Number)) {
    const runs = { kept: [], again: [] };
    for (let round = 0; round < Number(args.rounds); round++) {
      for (const side of ['kept', 'again']) {
        const result = await inProcess({ tokens, gradientCheckpointing: side === 'again' });
        runs[side].push(result);
        console.error(
          `${tokens} ${side}: ${result.seconds.toFixed(1)} s, ${gigabytes(result.peakRssBytes)} GB`,
        );
      }
    }
    const of = (side, key) => median(runs[side].map((r) => r[key]));
    table.push({
      tokens,
      seconds: [of('kept', 'seconds'), of('again', 'seconds')],
      // Of each round's pair, so that the machine's swings cancel.
      time: median(runs.kept.map((r, i) => runs.again[i].seconds / r.seconds)),
      peakRssBytes: [of('kept', 'peakRssBytes'), of('again', 'peakRssBytes')],
    });
  }
  write(table);
}

function write(table) {
  const machine = { cpu: cpus()[0].model, cores: cpus().length, node: process.version };
  const path = join(root, 'bench/results/checkpointing.json');
  mkdirSync(dirname(path), { recursive: true });
  const { rounds, steps } = args;
  writeFileSync(path, `${JSON.stringify({ machine, length: LENGTH, rounds, steps, table }, null, 1)}\n`);
  const lines = [
    '| tokens at once | CPU s, without · with | time | peak memory GB, without · with | memory |',
    '|---|---|---|---|---|',
    ...table.map((t) => {
      const share = t.peakRssBytes[1] / t.peakRssBytes[0] - 1;
      const seconds = t.seconds.map((s) => s.toFixed(1)).join(' · ');
      return `| ${t.tokens} | ${seconds} | ${percent(t.time - 1)} | ${t.peakRssBytes.map(gigabytes).join(' · ')} | ${percent(share)} |`;
    }),
  ];
  console.log(lines.join('\n'));
  const page = join(root, 'docs/memory.md');
  writeFileSync(
    page,
    readFileSync(page, 'utf8').replace(
      /(<!-- checkpointing -->\n)[\s\S]*(<!-- end -->)/,
      `$1${lines.join('\n')}\n$2`,
    ),
  );
}

async function inProcess(job) {
  const child = [fileURLToPath(import.meta.url), '--model', args.model, '--steps', args.steps];
  const { stdout } = await promisify(execFile)(process.execPath, [...child, '--child', JSON.stringify(job)]);
  return JSON.parse(stdout);
}

/** Processor seconds of a step of rows of 512 tokens, all supervised, the first not counted; and the peak memory. */
async function measure({ tokens, gradientCheckpointing }) {
  const model = await openModel(args.model);
  const lora = methodNamed('lora');
  const adapter = await createAdapter(
    lora,
    lora.parse('bench', { r: 8, targetModules: 'all-linear' }),
    model,
  );
  const runtime = new NodeRuntime();
  const step = await TrainStep.create(runtime, model, adapter, { gradientCheckpointing, threads: 1 });
  const ids = Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % 49000);
  const rows = tokens / LENGTH;
  const micro = {
    rows,
    length: LENGTH,
    ids,
    lengths: new Int32Array(rows).fill(LENGTH),
    targetRows: Int32Array.from(ids, (_, i) => i),
    targetIds: ids,
  };
  const seconds = [];
  for (let i = 0; i <= Number(args.steps); i++) {
    const before = process.cpuUsage();
    await step.run(micro, 1 / tokens);
    const { user, system } = process.cpuUsage(before);
    if (i > 0) seconds.push((user + system) / 1e6);
  }
  await runtime.close();
  return { seconds: median(seconds), peakRssBytes: process.resourceUsage().maxRSS * 1024 };
}

function gigabytes(bytes) {
  return (bytes / 1e9).toFixed(2);
}

function percent(change) {
  return `${change < 0 ? '−' : '+'}${Math.abs(100 * change).toFixed(0)}%`;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
