// What experts cost: steps of LoRA on a random Mixtral of 8 experts (89 million weights, 6 layers, width 512) that sends each
// token to 2 of them, beside one that sends it to all 8, and beside an MLP as wide as 2.
// usage: node bench/experts.mjs [ROUNDS]
// Prints for each the median time of a step and of the processor's, and the tokens that are generated in a second.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { encodeF32 } from '../dist/formats/float16.js';
import { writeSafetensors } from '../dist/formats/safetensors.js';
import { NodeRuntime } from '../dist/graph/runtime/node.js';
import { createAdapter } from '../dist/methods/adapter.js';
import { methodNamed } from '../dist/methods/index.js';
import { openModel } from '../dist/models/base.js';
import { parseModelConfig } from '../dist/models/index.js';
import { describe } from '../dist/models/shape.js';
import { DecodeStep } from '../dist/serve/decode.js';
import { trainLoop } from '../dist/train/loop.js';
import { causalLm } from '../dist/train/objectives/causalLm.js';
import { parseTrainOptions } from '../dist/train/options.js';

const ROUNDS = Number(process.argv[2] ?? 3);
const [BATCH, LENGTH, STEPS, TOKENS] = [2, 256, 3, 20];
const SIZES = {
  vocab_size: 8192,
  hidden_size: 512,
  num_hidden_layers: 6,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  max_position_embeddings: 2048,
};
const mixtral = (chosen) => ({
  ...SIZES,
  model_type: 'mixtral',
  intermediate_size: 1024,
  num_local_experts: 8,
  num_experts_per_tok: chosen,
});
const CASES = {
  'two experts of 8': mixtral(2),
  'all 8 experts': mixtral(8),
  'an MLP as wide as two': { ...SIZES, model_type: 'llama', intermediate_size: 2048 },
};

const scratch = mkdtempSync(join(tmpdir(), 'lowrank-experts-'));
const runtime = new NodeRuntime();
const found = Object.fromEntries(Object.keys(CASES).map((name) => [name, []]));
for (const [name, config] of Object.entries(CASES)) await writeModel(join(scratch, name), config);
for (let round = 0; round < ROUNDS; round++)
  for (const name of Object.keys(CASES)) found[name].push(await measure(join(scratch, name)));
await runtime.close();
rmSync(scratch, { recursive: true });
for (const [name, rounds] of Object.entries(found)) {
  const of = (key) => median(rounds.map((round) => round[key])).toFixed(2);
  console.log(
    `${name}: a step ${of('step')} s, of the processor ${of('cpu')} s; ${of('generated')} tokens/s generated`,
  );
}

async function writeModel(folder, config) {
  const { parameters } = describe(parseModelConfig('config', config));
  const entries = [...parameters].map(([name, shape]) => ({
    name,
    dtype: 'F32',
    shape,
    data: () => {
      const size = shape.reduce((a, b) => a * b);
      const values = Float32Array.from({ length: size }, () => (Math.random() - 0.5) * 0.07);
      return encodeF32(shape.length === 1 ? values.fill(1) : values, 'float32');
    },
  }));
  mkdirSync(folder);
  await writeSafetensors(join(folder, 'model.safetensors'), entries, {});
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
}

async function measure(folder) {
  const model = await openModel(folder);
  const lora = methodNamed('lora');
  const adapter = await createAdapter(lora, lora.parse('bench', { targetModules: 'all-linear' }), model, 1);
  const examples = Array.from({ length: BATCH }, (_, line) => ({
    ids: Int32Array.from({ length: LENGTH + 1 }, (_, i) => ((line * LENGTH + i) * 7919) % SIZES.vocab_size),
    supervised: new Uint8Array(LENGTH + 1).fill(1),
    line,
  }));
  const options = parseTrainOptions('bench', { batchSize: BATCH, maxSteps: STEPS + 1 });
  const times = [];
  let before;
  for await (const event of trainLoop({ runtime, model, adapter, objective: causalLm, examples, options })) {
    if (event.kind !== 'step') continue;
    const now = { at: performance.now() / 1000, cpu: cpuSeconds() };
    if (before) times.push({ step: now.at - before.at, cpu: now.cpu - before.cpu });
    before = now;
  }
  const decode = await DecodeStep.create(runtime, { ...model, serving: true }, undefined, {});
  const cache = decode.newCache();
  await decode.run([5, 17, 40, 8], cache);
  const start = performance.now();
  for (let i = 0; i < TOKENS; i++) await decode.run([i], cache);
  const generated = (TOKENS * 1000) / (performance.now() - start);
  await decode.close();
  return { step: median(times.map((t) => t.step)), cpu: median(times.map((t) => t.cpu)), generated };
}

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
