import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readJson } from '../../src/formats/io/node.js';
import { peftFileName } from '../../src/formats/peftNames.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { methodNamed, methods } from '../../src/methods/index.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { quantizeFolder } from '../../src/models/quantizing.js';
import { trainLoop } from '../../src/train/loop.js';
import { causalLm } from '../../src/train/objectives/causalLm.js';
import {
  golden,
  logitsOf,
  openTensors,
  ReferenceBatch,
  relativeError,
  runSchema,
  takeRows,
  trainOptions,
  worstRelativeError,
} from './reference.js';

// LoftQ over NF4 against PEFT, which keeps the quantized base in float32 (scripts/parity/make_loftq_fixtures.py).

const expectedSchema = runSchema.extend({
  base: z.string(),
  options: z.record(z.string(), z.unknown()),
  iterations: z.int(),
});

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-golden-loftq-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

const cases = readdirSync(golden('fixtures-loftq'));

it('has fixtures of one iteration and of several', () => {
  expect(cases).toEqual(['qwen2-1', 'qwen2-5', 'smollm2-2']);
});

describe.each(cases)('%s', (name) => {
  let original: BaseModel;
  let model: BaseModel;
  let adapter: Adapter;
  let batch: ReferenceBatch;
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let started: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;

  beforeAll(async () => {
    const folder = golden(`fixtures-loftq/${name}`);
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
    tensors = await openTensors(join(folder, 'expected.safetensors'));
    started = await openTensors(join(folder, 'start.safetensors'));
    original = await openModel(golden(`fixtures/${expected.base}`));
    batch = await ReferenceBatch.read(join(original.folder, 'batch.json'));
    const { loftq } = methods;
    const config = loftq.parse(name, { ...expected.options, loftq_iter: expected.iterations });
    const quantized = join(scratch, name);
    const alternation = loftq.alternation!(config, original);
    await quantizeFolder(original, quantized, { format: 'nf4', ...(alternation && { loftq: alternation }) });
    model = { ...(await openModel(quantized)), original: (tensor) => original.checkpoint.read(tensor) };
    adapter = await createAdapter(methodNamed('loftq'), config, model);
  });

  async function logitsError(reference: string): Promise<number> {
    const wanted = takeRows(await tensors.read(reference), model.config.vocabSize, batch.realRows);
    return relativeError(await logitsOf(runtime, model, adapter, batch), wanted);
  }

  it('the base is the quantized one that PEFT ends with', async () => {
    for (const weight of model.quantized.keys()) {
      const theirs = await started.read(`base.${weight.replace(/\.weight$/, '')}`);
      expect(relativeError(await model.checkpoint.read(weight), theirs), weight).toBeLessThan(1e-6);
    }
  });

  it('A and B start with the product that PEFT starts with', async () => {
    const parts = adapter.trainables.filter((t) => t.name.endsWith('.lora_A'));
    expect(parts.length).toBe(model.quantized.size);
    for (const { name: a, shape } of parts) {
      const b = a.replace(/A$/, 'B');
      const ours = product(adapter.values.get(b)!.data, adapter.values.get(a)!.data, shape);
      const [theirB, theirA] = await Promise.all([b, a].map((part) => started.read(peftFileName(part))));
      expect(relativeError(ours, product(theirB, theirA, shape)), a).toBeLessThan(1e-4);
    }
  });

  it('starts nearer to the original than the plain quantized base is', async () => {
    expect(await logitsError('start_logits')).toBeLessThan(1e-4);
    const plain = join(scratch, `${name}-plain`);
    await quantizeFolder(original, plain, { format: 'nf4' });
    const wanted = await logitsOf(runtime, original, undefined, batch);
    const start = relativeError(await logitsOf(runtime, model, adapter, batch), wanted);
    const without = relativeError(await logitsOf(runtime, await openModel(plain), undefined, batch), wanted);
    expect(start).toBeLessThan(0.9 * without);
  });

  it('losses of 20 AdamW steps', async () => {
    const examples = batch.examples();
    const options = trainOptions(expected.recipe, examples.length);
    const losses: number[] = [];
    for await (const event of trainLoop({
      runtime,
      model,
      adapter,
      objective: causalLm,
      examples,
      options,
    })) {
      if (event.kind === 'step') losses.push(event.loss);
    }
    expect(worstRelativeError(losses, expected.losses)).toBeLessThan(1e-3);
    expect(await logitsError('trained_logits')).toBeLessThan(2e-3);
  });
});

/** B·A of A [r, columns]. */
function product(b: Float32Array, a: Float32Array, [r, columns]: readonly number[]): Float64Array {
  const rows = b.length / r;
  return Float64Array.from({ length: rows * columns }, (_, at) => {
    const [i, j] = [Math.floor(at / columns), at % columns];
    let total = 0;
    for (let k = 0; k < r; k++) total += b[i * r + k] * a[k * columns + j];
    return total;
  });
}
