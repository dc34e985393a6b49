import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { baseForAdapter } from '../../src/api/task.js';
import { readJson } from '../../src/formats/io/node.js';
import { peftFileName } from '../../src/formats/peftNames.js';
import { type Task, taskSchema } from '../../src/formats/task.js';
import type { Adapter } from '../../src/methods/adapter.js';
import { writeAdapterFolder } from '../../src/methods/files.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { forTask } from '../../src/models/forTask.js';
import { microBatchesOf } from '../../src/train/data/batches.js';
import type { LabelledExample } from '../../src/train/data/labelled.js';
import type { TaggedExample } from '../../src/train/data/tagged.js';
import { trainLoop } from '../../src/train/loop.js';
import { objectiveOf } from '../../src/train/objectives/index.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import { LIMITS, openSuite, type StepEvent, worst } from './fixture.js';
import { golden, openTensors, relativeError, runSchema, trainOptions } from './reference.js';

// Each folder of fixtures-tasks/ is a task's head and a LoRA on a tiny model of another suite, with what transformers + PEFT
// compute (scripts/parity/make_task_fixtures.py). A new head is a new folder; nothing changes here.

const ROOT = 'fixtures-tasks';
const batchSchema = z.object({
  ids: z.array(z.array(z.int())),
  lengths: z.array(z.int()),
  type_ids: z.array(z.array(z.int())),
  targets: z.union([z.array(z.number()), z.array(z.array(z.int()))]),
});
const expectedSchema = runSchema.extend({
  base: z.string(),
  config: z.looseObject({ classifier_pooling: z.enum(['cls', 'mean']).optional() }),
  task: taskSchema,
});

const { runtime, scratch } = openSuite('tasks');
const cases = readdirSync(golden(ROOT));

/** Examples as the task's objective has them. */
function examplesOf(batch: z.output<typeof batchSchema>): unknown[] {
  return batch.lengths.map((length, row): LabelledExample | TaggedExample => {
    const ids = Int32Array.from(batch.ids[row].slice(0, length));
    const types = batch.type_ids[row].slice(0, length);
    const target = batch.targets[row];
    if (typeof target === 'number') {
      const typeIds = types.some((type) => type > 0) ? { typeIds: Int32Array.from(types) } : {};
      return { ids, ...typeIds, target, line: row + 1 };
    }
    const positions = Int32Array.from(target.flatMap((label, at) => (label < 0 ? [] : [at])));
    const words = positions.toString().split(',');
    return { ids, positions, words, targets: positions.map((at) => target[at]), line: row + 1 };
  });
}

describe.each(cases)('%s', (name) => {
  const folder = golden(`${ROOT}/${name}`);
  const theirs = join(folder, 'adapter');
  let bare: BaseModel;
  let model: BaseModel;
  let examples: unknown[];
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;
  const load = (from = theirs, base = bare): Promise<Adapter> => readAdapterFor(from, base);
  beforeAll(async () => {
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
    const opened = await openModel(golden(expected.base));
    const pooling = expected.config.classifier_pooling;
    const config = {
      ...opened.config,
      ...(pooling && { classifier: { ...Object(opened.config).classifier, pooling } }),
    };
    bare = { ...opened, config };
    model = await baseForAdapter(theirs, bare);
    examples = examplesOf(await readJson(join(folder, 'batch.json'), batchSchema));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
  });

  const wholeBatch = () => {
    const batches = microBatchesOf(examples, objectiveOf(model).batching, 1e9);
    expect(batches).toHaveLength(1);
    return batches[0];
  };

  /** Of the logits, in the order of the examples, and of the loss. */
  async function errors(
    of: BaseModel,
    adapter: Adapter | undefined,
  ): Promise<{ logits: number; loss: number }> {
    const objective = objectiveOf(of);
    const step = await LossStep.create(runtime, of, adapter, { objective, logits: true });
    const logits: number[] = [];
    let [sum, count] = [0, 0];
    for (const example of examples) {
      const [micro] = microBatchesOf([example], objective.batching, 1e9);
      const found = await step.run(micro);
      logits.push(...found.logits!.data);
      sum += found.lossSum;
      count += micro.targetIds.length;
    }
    await step.close();
    return {
      logits: relativeError(Float32Array.from(logits), await tensors.read('logits')),
      loss: Math.abs(sum / count - expected.loss) / expected.loss,
    };
  }

  it('is the task that PEFT wrote the adapter for', () => {
    expect(bare.config.task).toBeUndefined();
    const labels = expected.task.kind === 'regression' ? {} : { labels: ['LABEL_0', 'LABEL_1', 'LABEL_2'] };
    expect(model.config.task).toEqual({ kind: expected.task.kind, ...labels });
  });

  it('logits and loss of each row', async () => {
    const found = await errors(model, await load());
    expect(found.logits).toBeLessThan(LIMITS.logits);
    expect(found.loss).toBeLessThan(LIMITS.loss);
  });

  it('the gradient of all that trains, the head among it, over rows of unequal length', async () => {
    const step = await TrainStep.create(runtime, model, await load(), { objective: objectiveOf(model) });
    const micro = wholeBatch();
    const { loss, grads } = await step.run(micro, 1 / micro.targetIds.length);
    await step.close();
    expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(LIMITS.loss);
    const fileName = (trainable: string) => `grad.${peftFileName(trainable)}`;
    expect([...grads.keys()].map(fileName).sort()).toEqual(
      tensors.names.filter((key) => key.startsWith('grad.')).sort(),
    );
    for (const [trainable, { data }] of grads) {
      expect(relativeError(data, await tensors.read(fileName(trainable))), trainable).toBeLessThan(
        LIMITS.gradient,
      );
    }
  });

  it('losses of 20 AdamW steps', async () => {
    const job = { runtime, model, adapter: await load(), objective: objectiveOf(model), examples };
    const steps: StepEvent[] = [];
    for await (const event of trainLoop({
      ...job,
      options: trainOptions(expected.recipe, examples.length),
    })) {
      if (event.kind === 'step') steps.push(event);
    }
    expect(worst(steps, 'loss', expected.losses)).toBeLessThan(LIMITS.losses);
    expect(worst(steps, 'gradNorm', expected.grad_norms)).toBeLessThan(LIMITS.norms);
  });

  it('an adapter is written with its task, and read with it', async () => {
    const mine = join(scratch, `${name}-adapter`);
    mkdirSync(mine);
    const named = forTask(bare, expected.task as Task);
    const adapter = await load(theirs, named);
    await writeAdapterFolder(mine, adapter, null);
    expect((await baseForAdapter(mine, bare)).config.task).toEqual(expected.task);
    const again = await load(mine);
    expect([...again.values].sort()).toEqual([...adapter.values].sort());
  });

  it('a merged model is one with a head and its labels', async () => {
    const merged = join(scratch, name);
    const named = forTask(bare, expected.task as Task);
    await writeMergedModel(merged, runtime, named, await load(theirs, named), { dtype: 'float32' });
    const opened = await openModel(merged);
    expect(opened.config.task).toEqual(expected.task);
    if (expected.config.classifier_pooling) return;
    expect((await errors(opened, undefined)).logits).toBeLessThan(LIMITS.logits);
  });
});
