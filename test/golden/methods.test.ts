import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readJson } from '../../src/formats/io/node.js';
import { peftFileName, readAdapter, writeAdapter } from '../../src/formats/peft.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import type { Adapter } from '../../src/methods/adapter.js';
import { loadAdapterFolder } from '../../src/methods/files.js';
import { methodNamed } from '../../src/methods/index.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { trainLoop } from '../../src/train/loop.js';
import { TrainStep } from '../../src/train/step.js';
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

// Each folder of fixtures-methods/ is an adapter of one method on one of the tiny models of fixtures/, with what
// PEFT computes (scripts/parity/make_method_fixtures.py).

const expectedSchema = runSchema.extend({
  method: z.string(),
  base: z.string(),
  loraplus_lr_ratio: z.number().optional(),
});

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-golden-methods-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

const cases = readdirSync(golden('fixtures-methods'));

it('has a fixture of every method that PEFT has', () => {
  for (const method of ['dora', 'vera', 'loraplus']) {
    expect(
      cases.some((name) => name.endsWith(`-${method}`)),
      method,
    ).toBe(true);
  }
});

describe.each(cases)('%s', (name) => {
  const folder = golden(`fixtures-methods/${name}`);
  let model: BaseModel;
  let adapter: Adapter;
  let batch: ReferenceBatch;
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;

  beforeAll(async () => {
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
    const base = golden(`fixtures/${expected.base}`);
    model = await openModel(base);
    adapter = await load();
    batch = await ReferenceBatch.read(join(base, 'batch.json'));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
  });

  /** The adapter under its method: one that is only a way to train is saved as LoRA. */
  async function load(): Promise<Adapter> {
    const loaded = await loadAdapterFolder(join(folder, 'adapter'), model);
    if (loaded.method.name === expected.method) return loaded;
    const method = methodNamed(expected.method);
    const ratio = { loraplusLrRatio: expected.loraplus_lr_ratio };
    return { ...loaded, method, config: method.parse(name, { ...(loaded.config as object), ...ratio }) };
  }

  async function logitsError(of: BaseModel, on: Adapter | undefined, reference: string): Promise<number> {
    const logits = await logitsOf(runtime, of, on, batch);
    const wanted = takeRows(await tensors.read(reference), model.config.vocabSize, batch.realRows);
    return relativeError(logits, wanted);
  }

  it('is read and written back as PEFT wrote it', async () => {
    const [theirs, ours] = [join(folder, 'adapter'), join(scratch, `${name}-adapter`)];
    const { config, tensors: read } = await readAdapter(theirs);
    await mkdir(ours);
    await writeAdapter(ours, config, read);
    const [mine, original] = await Promise.all(
      [ours, theirs].map((at) => readFile(join(at, 'adapter_model.safetensors'))),
    );
    expect(mine.equals(original)).toBe(true);
    const json = (at: string) => readJson(join(at, 'adapter_config.json'), z.unknown());
    expect(await json(ours)).toEqual(await json(theirs));
  });

  it('logits', async () => {
    expect(await logitsError(model, adapter, 'adapted_logits')).toBeLessThan(1e-5);
  });

  it('loss and the gradient of all that trains', async () => {
    const step = await TrainStep.create(runtime, model, adapter);
    const micro = batch.supervised();
    const { loss, grads } = await step.run(micro, 1 / micro.targetRows.length);
    await step.close();
    expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(1e-5);

    const reference = tensors.names.filter((n) => n.startsWith('grad.'));
    expect([...grads.keys()].map((n) => `grad.${peftFileName(n)}`).sort()).toEqual(reference.sort());
    for (const [trainable, grad] of grads) {
      const error = relativeError(grad.data, await tensors.read(`grad.${peftFileName(trainable)}`));
      expect(error, trainable).toBeLessThan(1e-4);
    }
  });

  it('losses of 20 AdamW steps', async () => {
    const examples = batch.examples();
    const options = trainOptions(expected.recipe, examples.length);
    const losses: number[] = [];
    const norms: number[] = [];
    for await (const event of trainLoop({ runtime, model, adapter: await load(), examples, options })) {
      if (event.kind !== 'step') continue;
      losses.push(event.loss);
      norms.push(event.gradNorm);
    }
    expect(worstRelativeError(losses, expected.losses)).toBeLessThan(1e-3);
    expect(worstRelativeError(norms, expected.grad_norms)).toBeLessThan(1e-2);
  });

  it('a merged model, written and read back', async () => {
    const merged = join(scratch, name);
    await writeMergedModel(merged, runtime, model, adapter, { dtype: 'float32' });
    expect(await logitsError(await openModel(merged), undefined, 'merged_logits')).toBeLessThan(1e-5);
  });
});
