import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { baseForAdapter } from '../../src/api/task.js';
import { readJson } from '../../src/formats/io/node.js';
import { peftFileName } from '../../src/formats/peftNames.js';
import { type EmbeddingTask, taskSchema } from '../../src/formats/task.js';
import type { Adapter } from '../../src/methods/adapter.js';
import { writeAdapterFolder } from '../../src/methods/files.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { forTask } from '../../src/models/forTask.js';
import { microBatchesOf } from '../../src/train/data/batches.js';
import type { SentencesExample } from '../../src/train/data/sentences.js';
import { Evaluator } from '../../src/train/evaluate.js';
import { trainLoop } from '../../src/train/loop.js';
import { objectiveOf } from '../../src/train/objectives/index.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import { configOf, LIMITS, openSuite, type StepEvent, worst } from './fixture.js';
import { golden, openTensors, relativeError, runSchema, trainOptions } from './reference.js';

// Each folder of fixtures-embeddings/ is a LoRA on a tiny model of another suite, with the embeddings and the contrastive loss
// that transformers + PEFT compute (scripts/parity/make_embedding_fixtures.py); with LOWRANK_PARITY=live they also load what is
// written here.

const ROOT = 'fixtures-embeddings';
const live = process.env.LOWRANK_PARITY === 'live';
const batchSchema = z.object({ texts: z.array(z.array(z.array(z.int()))) });
const expectedSchema = runSchema.extend({
  base: z.string(),
  task: taskSchema,
  accuracy: z.number(),
  mrr: z.number(),
});

const { runtime, scratch } = openSuite('embeddings');

describe.each(readdirSync(golden(ROOT)))('%s', (name) => {
  const folder = golden(`${ROOT}/${name}`);
  const theirs = join(folder, 'adapter');
  let bare: BaseModel;
  let model: BaseModel;
  let examples: SentencesExample[];
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;
  beforeAll(async () => {
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
    bare = await openModel(golden(expected.base));
    model = forTask(bare, expected.task as EmbeddingTask);
    const { texts } = await readJson(join(folder, 'batch.json'), batchSchema);
    examples = texts[0].map((_, row) => ({
      sentences: texts.map((column) => ({ ids: Int32Array.from(column[row]) })),
      line: row + 1,
    }));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
  });
  const load = (from = theirs): Promise<Adapter> => readAdapterFor(from, model);

  /** The whole batch: however small the budget is, it is not split. */
  const micro = () => {
    const batches = microBatchesOf<unknown>(examples, objectiveOf(model).batching, 1);
    expect(batches).toHaveLength(1);
    return batches[0];
  };
  const keyOf = (trainable: string) => {
    const { prefix } = model.network.names;
    expect(trainable.startsWith(prefix)).toBe(true);
    return `grad.${peftFileName(trainable.slice(prefix.length))}`;
  };

  async function embeddingsError(of: BaseModel, adapter: Adapter | undefined): Promise<number> {
    const step = await LossStep.create(runtime, of, adapter, { logits: true });
    const { logits } = await step.run(micro());
    await step.close();
    return relativeError(logits!.data, await tensors.read('embeddings'));
  }

  /** PEFT, or transformers alone, computes the same with what was written. */
  const checkLive = (at: string) => {
    if (live)
      execFileSync('.venv/bin/python', ['scripts/parity/make_embedding_fixtures.py', '--check', at, name]);
  };

  it('embeddings, and the loss and metrics of a batch', async () => {
    const adapter = await load();
    expect(await embeddingsError(model, adapter)).toBeLessThan(LIMITS.logits);
    const evaluator = await Evaluator.create<unknown>(runtime, model, adapter, objectiveOf(model));
    const { loss, accuracy, mrr } = await evaluator.run(examples, 64);
    await evaluator.close();
    expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(LIMITS.loss);
    expect([accuracy, mrr]).toEqual([expected.accuracy, expect.closeTo(expected.mrr, 6)]);
  });

  it('the gradient of all that an embedding is made by', async () => {
    const step = await TrainStep.create(runtime, model, await load());
    const whole = micro();
    const { loss, grads } = await step.run(whole, 1 / whole.targetIds.length);
    await step.close();
    expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(LIMITS.loss);
    // The pooler is a target, and no embedding is made of it.
    const wanted = tensors.names.filter((key) => key.startsWith('grad.') && !key.includes('.pooler.'));
    expect([...grads.keys()].map(keyOf).sort()).toEqual(wanted.sort());
    for (const [trainable, { data }] of grads) {
      const error = relativeError(data, await tensors.read(keyOf(trainable)));
      expect(error, trainable).toBeLessThan(LIMITS.gradient);
    }
  });

  it('losses of 20 AdamW steps', async () => {
    const job = { runtime, model, adapter: await load(), objective: objectiveOf(model), examples };
    const options = trainOptions(expected.recipe, examples.length);
    const steps: StepEvent[] = [];
    for await (const event of trainLoop<unknown>({ ...job, options })) {
      if (event.kind === 'step') steps.push(event);
    }
    expect(steps).toHaveLength(expected.recipe.steps);
    expect(worst(steps, 'loss', expected.losses)).toBeLessThan(LIMITS.losses);
    expect(worst(steps, 'gradNorm', expected.grad_norms)).toBeLessThan(LIMITS.norms);
  });

  it('an adapter is written as PEFT has it of AutoModel, with its task beside it', async () => {
    const mine = join(scratch, `${name}-adapter`);
    mkdirSync(mine);
    const adapter = await load();
    await writeAdapterFolder(mine, adapter, null);
    const [own, peft] = [mine, theirs].map((at) => join(at, 'adapter_model.safetensors'));
    expect((await openTensors(own)).names.sort()).toEqual((await openTensors(peft)).names.sort());
    expect(await configOf(mine)).toMatchObject({ task_type: 'FEATURE_EXTRACTION', modules_to_save: null });
    expect((await baseForAdapter(mine, bare)).config.task).toEqual(expected.task);
    expect([...(await load(mine)).values].sort()).toEqual([...adapter.values].sort());
    checkLive(mine);
  });

  it('a merged model is a sentence encoder', async () => {
    const merged = join(scratch, name);
    await writeMergedModel(merged, runtime, model, await load(), { dtype: 'float32' });
    const opened = await openModel(merged);
    expect(opened.config.task).toEqual(expected.task);
    expect(await embeddingsError(opened, undefined)).toBeLessThan(LIMITS.logits);
    checkLive(merged);
  });
});
