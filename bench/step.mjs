// One side of the benchmark: LoRA training of a model with lowrank, by its own training loop.
// usage: node bench/step.mjs '{"model":DIR,"mode":"synthetic","batch":2,"seq":256,"steps":5}'
//    or: node bench/step.mjs '{"model":DIR,"mode":"data","data":FILE,"batch":8,"steps":20}'
// With "profile":PREFIX the engine writes its profile, for bench/profile.mjs. Prints one JSON line. Tokens are counted without padding; the first step is not.
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { NodeRuntime } from '../dist/graph/runtime/node.js';
import { createAdapter } from '../dist/methods/adapter.js';
import { methodNamed } from '../dist/methods/index.js';
import { openModel } from '../dist/models/base.js';
import { trainLoop } from '../dist/train/loop.js';
import { causalLm } from '../dist/train/objectives/causalLm.js';
import { parseTrainOptions } from '../dist/train/options.js';
import { gemmPeak, stepFlops } from './flops.mjs';

const job = { r: 8, loraAlpha: 16, targetModules: 'all-linear', ...JSON.parse(process.argv[2]) };
const model = await openModel(job.model);
const lora = methodNamed('lora');
const config = lora.parse('job', { r: job.r, loraAlpha: job.loraAlpha, targetModules: job.targetModules });
const adapter = await createAdapter(lora, config, model, 1);
const examples = job.mode === 'data' ? readExamples(job.data) : syntheticExamples(job.batch, job.seq);
const options = parseTrainOptions('job', {
  batchSize: job.batch,
  maxSteps: job.steps + 1,
  learningRate: 1e-4,
  microBatchTokens: job.microBatchTokens,
  gradientCheckpointing: job.gradientCheckpointing ?? false,
  checkpointedLayers: job.checkpointedLayers,
  packing: job.packing ?? false,
});

const runtime = new NodeRuntime();
const times = [];
let before = { at: 0, tokens: 0 };
let firstStepSeconds = 0;
let loss = 0;
const session = job.profile ? { profile: job.profile } : {};
for await (const event of trainLoop({
  runtime,
  model,
  adapter,
  objective: causalLm,
  examples,
  options,
  session,
})) {
  if (event.kind !== 'step') continue;
  const now = { at: performance.now(), tokens: event.tokens };
  if (event.step === 1) firstStepSeconds = now.at / 1000;
  else times.push({ seconds: (now.at - before.at) / 1000, tokens: now.tokens - before.tokens });
  before = now;
  loss = event.loss;
}
const peakRssBytes = process.resourceUsage().maxRSS * 1024;
const seconds = times.reduce((s, t) => s + t.seconds, 0);
const tokens = times.reduce((s, t) => s + t.tokens, 0);
const result = {
  engine: 'lowrank',
  ...job,
  stepSeconds: median(times.map((t) => t.seconds)),
  // Steps of a data set differ in length: all of its tokens over all of its time.
  tokensPerSecond: job.mode === 'data' ? tokens / seconds : median(times.map((t) => t.tokens / t.seconds)),
  firstStepSeconds,
  peakRssBytes,
  loss,
};
if (job.mode === 'synthetic') {
  const peak = await gemmPeak(runtime);
  result.gemmPeak = peak;
  result.shareOfPeak = stepFlops(model.config, job) / result.stepSeconds / peak;
}
await runtime.close();
console.log(JSON.stringify(result));

/** Rows of the same fixed ids as the other side has; every position is supervised. */
function syntheticExamples(rows, length) {
  return Array.from({ length: rows }, (_, row) => ({
    ids: Int32Array.from({ length: length + 1 }, (_, i) => ((row * length + i) * 7919) % 49000),
    supervised: new Uint8Array(length + 1).fill(1),
    line: row + 1,
  }));
}

/** JSONL of {ids, supervised}. */
function readExamples(path) {
  return readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line, i) => {
      const { ids, supervised } = JSON.parse(line);
      return { ids: Int32Array.from(ids), supervised: Uint8Array.from(supervised), line: i + 1 };
    });
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
