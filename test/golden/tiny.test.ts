import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as z from 'zod';
import { readJson } from '../../src/formats/io/node.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import type { Adapter } from '../../src/methods/adapter.js';
import { loadAdapterFolder } from '../../src/methods/files.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { DecodeStep } from '../../src/serve/decode.js';
import { generateTokens, parseGenerateOptions } from '../../src/serve/generate.js';
import { trainLoop } from '../../src/train/loop.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import {
  golden,
  greedySchema,
  openTensors,
  peftKey,
  ReferenceBatch,
  relativeError,
  runSchema,
  takeRows,
  trainOptions,
  worstRelativeError,
} from './reference.js';

// Each folder of fixtures/ is a tiny model of one architecture with what PyTorch + PEFT computes on it
// (scripts/parity/make_fixtures.py). A new architecture is a new folder; nothing changes here.

const expectedSchema = runSchema.extend({ greedy: greedySchema });

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-golden-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

const cases = readdirSync(golden('fixtures'));

it('has a fixture of every architecture', () => expect(cases.length).toBeGreaterThanOrEqual(7));

describe.each(cases)('%s', (name) => {
  const folder = golden(`fixtures/${name}`);
  let model: BaseModel;
  let adapter: Adapter;
  let batch: ReferenceBatch;
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;

  beforeAll(async () => {
    model = await openModel(folder);
    adapter = await loadAdapterFolder(join(folder, 'adapter'), model);
    batch = await ReferenceBatch.read(join(folder, 'batch.json'));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
  });

  /** Relative error of the logits at every token that is not padding. */
  async function logitsError(of: BaseModel, on: Adapter | undefined, reference: string): Promise<number> {
    const step = await LossStep.create(runtime, of, on, { logits: true });
    const { logits } = await step.run(batch.everywhere());
    await step.close();
    const wanted = takeRows(await tensors.read(reference), model.config.vocabSize, batch.realRows);
    return relativeError(logits!.data, wanted);
  }

  async function greedy(merged: boolean): Promise<number[]> {
    const { prompt, tokens } = expected.greedy;
    const step = await DecodeStep.create(runtime, model, adapter, { merged });
    const options = parseGenerateOptions('test', { maxNewTokens: tokens.length });
    const out: number[] = [];
    for await (const id of generateTokens(step, model.config, prompt, options, [])) out.push(id);
    await step.close();
    return out;
  }

  it('base logits', async () => {
    expect(await logitsError(model, undefined, 'base_logits')).toBeLessThan(1e-5);
  });

  it('logits with the adapter', async () => {
    expect(await logitsError(model, adapter, 'adapted_logits')).toBeLessThan(1e-5);
  });

  it('loss and the gradient of every A and B', async () => {
    const step = await TrainStep.create(runtime, model, adapter);
    const micro = batch.supervised();
    const { loss, grads } = await step.run(micro, 1 / micro.targetRows.length);
    await step.close();
    expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(1e-5);

    const reference = tensors.names.filter((n) => n.startsWith('grad.'));
    expect([...grads.keys()].map((n) => `grad.${peftKey(n)}`).sort()).toEqual(reference.sort());
    for (const [trainable, grad] of grads) {
      const error = relativeError(grad.data, await tensors.read(`grad.${peftKey(trainable)}`));
      expect(error, trainable).toBeLessThan(1e-4);
    }
  });

  it('losses of 20 AdamW steps with clipping, warm-up and cosine', async () => {
    const examples = batch.examples();
    const own = await loadAdapterFolder(join(folder, 'adapter'), model);
    const options = trainOptions(expected.recipe, examples.length);
    const losses: number[] = [];
    const norms: number[] = [];
    const rates: number[] = [];
    for await (const event of trainLoop({ runtime, model, adapter: own, examples, options })) {
      if (event.kind !== 'step') continue;
      losses.push(event.loss);
      norms.push(event.gradNorm);
      rates.push(event.learningRate);
    }
    expect(rates[0]).toBe(0);
    expect(worstRelativeError(rates.slice(1), expected.learning_rates.slice(1))).toBeLessThan(1e-12);
    expect(worstRelativeError(losses, expected.losses)).toBeLessThan(1e-3);
    expect(worstRelativeError(norms, expected.grad_norms)).toBeLessThan(1e-2);
  });

  it('a merged model, written and read back', async () => {
    const merged = join(scratch, name);
    await writeMergedModel(merged, runtime, model, adapter, { dtype: 'float32' });
    expect(await logitsError(await openModel(merged), undefined, 'merged_logits')).toBeLessThan(1e-5);
  });

  it('greedy tokens with the adapter beside the base', async () => {
    expect(await greedy(false)).toEqual(expected.greedy.tokens);
  });

  it('greedy tokens with the adapter merged at load', async () => {
    expect(await greedy(true)).toEqual(expected.greedy.tokens);
  });
});
