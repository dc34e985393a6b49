import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readJson } from '../../src/formats/io/node.js';
import { peftFileName } from '../../src/formats/peft.js';
import { readSafetensorsHeader } from '../../src/formats/safetensors.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { loadAdapterFolder, writeAdapterFolder } from '../../src/methods/files.js';
import { methodNamed } from '../../src/methods/index.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { trainLoop } from '../../src/train/loop.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import {
  golden,
  openTensors,
  ReferenceBatch,
  relativeError,
  runSchema,
  takeRows,
  trainOptions,
  worstRelativeError,
} from './reference.js';

// Methods that start LoRA in a part of the base, against PEFT, which changes the base for them
// (scripts/parity/make_init_fixtures.py).

const expectedSchema = runSchema.extend({
  method: z.string(),
  base: z.string(),
  options: z.record(z.string(), z.unknown()),
});

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-golden-init-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

const cases = readdirSync(golden('fixtures-init'));

it('has a fixture of each', () => {
  for (const method of ['pissa', 'olora'])
    expect(cases.filter((name) => name.endsWith(`-${method}`))).toHaveLength(2);
});

describe.each(cases)('%s', (name) => {
  const folder = golden(`fixtures-init/${name}`);
  let model: BaseModel;
  let batch: ReferenceBatch;
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let started: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;

  beforeAll(async () => {
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
    const base = golden(`fixtures/${expected.base}`);
    model = await openModel(base);
    batch = await ReferenceBatch.read(join(base, 'batch.json'));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
    started = await openTensors(join(folder, 'start.safetensors'));
  });

  function start(): Promise<Adapter> {
    const method = methodNamed(expected.method);
    return createAdapter(method, method.parse(name, expected.options), model);
  }

  async function logitsError(on: Adapter | undefined, reference: string): Promise<number> {
    const step = await LossStep.create(runtime, model, on, { logits: true });
    const { logits } = await step.run(batch.everywhere());
    await step.close();
    const wanted = takeRows(await tensors.read(reference), model.config.vocabSize, batch.realRows);
    return relativeError(logits!.data, wanted);
  }

  /**
   * `theirs` with the signs that `ours` has: a singular vector and its negative are as good. One sign for each of the r
   * directions: rows of A, columns of B.
   */
  function signsOf(ours: Float32Array, theirs: Float32Array, directionOf: (i: number) => number): number[] {
    const dots: number[] = [];
    for (const [i, x] of ours.entries()) dots[directionOf(i)] = (dots[directionOf(i)] ?? 0) + x * theirs[i];
    return dots.map(Math.sign);
  }
  const direction =
    (tensor: string, [, columns]: readonly number[]) =>
    (i: number) =>
      tensor.endsWith('lora_A') ? Math.floor(i / columns) : i % columns;

  it('A and B start as in PEFT, up to the sign of a direction', async () => {
    const adapter = await start();
    const trained = adapter.trainables.filter((t) => t.trains !== false);
    expect(trained.map((t) => peftFileName(t.name)).sort()).toEqual([...started.names].sort());
    for (const { name: tensor, shape } of trained) {
      const ours = adapter.values.get(tensor)!.data;
      const theirs = await started.read(peftFileName(tensor));
      const of = direction(tensor, shape);
      const signs = signsOf(ours, theirs, of);
      expect(
        relativeError(
          ours,
          theirs.map((x, i) => x * signs[of(i)]),
        ),
        tensor,
      ).toBeLessThan(1e-4);
      if (expected.method === 'olora') expect(signs.every((sign) => sign === 1)).toBe(true);
    }
  });

  it('training starts at the base', async () => {
    expect(await logitsError(await start(), 'start_logits')).toBeLessThan(1e-5);
    expect(await logitsError(undefined, 'start_logits')).toBeLessThan(1e-5);
  });

  it('loss and gradients', async () => {
    const adapter = await start();
    const step = await TrainStep.create(runtime, model, adapter);
    const micro = batch.supervised();
    const { loss, grads } = await step.run(micro, 1 / micro.targetRows.length);
    await step.close();
    expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(1e-5);
    expect(grads.size).toBe(tensors.names.filter((n) => n.startsWith('grad.')).length);
    for (const [tensor, grad] of grads) {
      const of = direction(tensor, grad.dims);
      const start = await started.read(peftFileName(tensor));
      const signs = signsOf(adapter.values.get(tensor)!.data, start, of);
      const theirs = await tensors.read(`grad.${peftFileName(tensor)}`);
      expect(
        relativeError(
          grad.data,
          theirs.map((x, i) => x * signs[of(i)]),
        ),
        tensor,
      ).toBeLessThan(2e-4);
    }
  });

  it('losses of 20 AdamW steps, and a LoRA of twice the rank at their end', async () => {
    const adapter = await start();
    const examples = batch.examples();
    const options = trainOptions(expected.recipe, examples.length);
    const losses: number[] = [];
    for await (const event of trainLoop({ runtime, model, adapter, examples, options })) {
      if (event.kind === 'step') losses.push(event.loss);
    }
    expect(worstRelativeError(losses, expected.losses)).toBeLessThan(1e-3);
    expect(await logitsError(adapter, 'trained_logits')).toBeLessThan(2e-3);

    const saved = join(scratch, name);
    await mkdir(saved);
    await writeAdapterFolder(saved, adapter, `fixtures/${expected.base}`);
    const loaded = await loadAdapterFolder(saved, model);
    expect(loaded.method.name).toBe('lora');
    expect(await logitsError(loaded, 'trained_logits')).toBeLessThan(2e-3);
    const shapes = async (at: string) => {
      const { tensors: found } = await readSafetensorsHeader(join(at, 'adapter_model.safetensors'));
      return Object.fromEntries([...found].map(([key, { shape }]) => [key, shape]));
    };
    expect(await shapes(saved)).toEqual(await shapes(join(folder, 'adapter')));
    const config = (at: string) => readJson(join(at, 'adapter_config.json'), z.looseObject({}));
    const theirs = await config(join(folder, 'adapter'));
    // PEFT has the names of modules in place of the rule that chose them.
    expect({ ...(await config(saved)), target_modules: 0 }).toMatchObject({
      ...theirs,
      target_modules: 0,
      lora_alpha: expect.closeTo(Number(theirs.lora_alpha), 9),
    });
  });

  it("PEFT's conversion computes here what PEFT computed", async () => {
    const loaded = await loadAdapterFolder(join(folder, 'adapter'), model);
    expect(await logitsError(loaded, 'trained_logits')).toBeLessThan(1e-5);
  });
});

it('refuses a rank that, doubled, its matrix does not allow', async () => {
  const model = await openModel(golden('fixtures/smollm2'));
  const select = (method: string) => () =>
    methodNamed(method).select(methodNamed(method).parse('c', { r: 5, targetModules: ['k_proj'] }), model);
  const message =
    'is saved as a LoRA of rank 10, which is larger than model.layers.0.self_attn.k_proj allows: its matrix is 8 × 24; lower r to 4';
  expect(select('pissa')).toThrow(`pissa ${message}`);
  expect(select('olora')).toThrow(`olora ${message}`);
  expect(() => methodNamed('lora').parse('c', { init_lora_weights: 'pissa_niter_4' })).toThrow(
    'c: key "init_lora_weights": "pissa_niter_4" is a method of its own here, "pissa"; expected true, false, ',
  );
  expect(() => methodNamed('olora').parse('c', { lora_bias: true })).toThrow('c: key "lora_bias"');
  expect(() => methodNamed('pissa').parse('c', { init_lora_weights: 'gaussian' })).toThrow(
    'this method starts A and B in its own way; leave it out',
  );
  for (const method of ['pissa', 'olora', 'adalora'].map(methodNamed)) {
    const config = method.parse('c', { lora_alpha: 3 });
    expect(method.parse('c', JSON.parse(JSON.stringify(config)))).toEqual(config);
  }
});
