import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { createAdapter } from '../../src/methods/adapter.js';
import { leavesModel } from '../../src/methods/counts.js';
import { writeAdapterFolder } from '../../src/methods/files.js';
import { type MethodName, methodNamed, methods } from '../../src/methods/index.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { forTask } from '../../src/models/forTask.js';
import { microBatchesOf } from '../../src/train/data/batches.js';
import type { LabelledExample } from '../../src/train/data/labelled.js';
import { objectiveOf } from '../../src/train/objectives/index.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import { openSuite } from './fixture.js';
import { golden } from './reference.js';

// Every method beside a new head: encoders with a cache and without, one with distances and a convolution, and Conv1D.

const MODELS = [
  'fixtures-encoders/bert',
  'fixtures-encoders/deberta-v2',
  'fixtures-encoders/modernbert',
  'fixtures/gpt2',
];
const TASK = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } as const;

const OPTIONS: Partial<Record<MethodName, object>> = {
  alora: { aloraInvocationTokens: [5] },
  miss: { r: 4 },
};
/** One sentence for each model that a method is not for. */
const REFUSALS: Partial<Record<MethodName, (model: string) => string | undefined>> = {
  alora: () => 'takes no aLoRA, as in PEFT; take lora',
  loftq: () => 'loftq starts at what quantizing took from the base',
  bitfit: (model) =>
    model.endsWith('modernbert') ? 'bitfit trains biases and this model has none' : undefined,
  miss: (model) => (model.endsWith('gpt2') ? 'PEFT has no MiSS for' : undefined),
  prefix: (model) => (/deberta|modernbert/.test(model) ? 'this model takes none' : undefined),
};

const { runtime, scratch } = openSuite('task-methods');
const names = Object.keys(methods) as MethodName[];

describe.each(MODELS)('%s', (folder) => {
  let bare: BaseModel;
  let model: BaseModel;
  beforeAll(async () => {
    bare = await openModel(golden(folder));
    model = forTask(bare, TASK);
  });

  const examples = [7, 4].map(
    (length, target): LabelledExample => ({
      ids: Int32Array.from({ length }, (_, i) => 5 + i),
      target,
      line: 1,
    }),
  );

  it.each(names)('%s', async (name) => {
    const method = methodNamed(name);
    const start = () => createAdapter(method, method.parse('c', OPTIONS[name] ?? {}), model);
    const refusal = REFUSALS[name]?.(folder);
    if (refusal !== undefined) {
      await expect(start()).rejects.toThrow(refusal);
      return;
    }
    const adapter = await start();
    const objective = objectiveOf(model);
    const [micro] = microBatchesOf(examples, objective.batching, 1e9);
    const step = await TrainStep.create(runtime, model, adapter, { objective });
    const { grads } = await step.run(micro, 0.5);
    await step.close();
    for (const head of model.trained) {
      const size = Math.hypot(...grads.get(head)!.data);
      expect(size, head).toBeGreaterThan(0);
    }
    // All of the head, and something of the method's own.
    const others = [...grads].filter(
      ([key, { data }]) => !model.trained.includes(key) && data.some((x) => x !== 0),
    );
    expect(others.length > 0).toBe(name !== 'probe');

    const errorOf = async (merged: boolean, from = adapter) => {
      const loss = await LossStep.create(runtime, model, from, { objective, merged, logits: true });
      const { logits } = await loss.run(micro);
      await loss.close();
      return [...logits!.data];
    };
    const own = await errorOf(false);
    if (!leavesModel(method)) {
      const at = join(scratch, `${folder}-${name}`.replaceAll('/', '-'));
      mkdirSync(at);
      await writeAdapterFolder(at, adapter, null);
      const again = await readAdapterFor(at, bare);
      expect(again.head?.task).toEqual(TASK);
      for (const [i, logit] of (await errorOf(false, again)).entries()) expect(logit).toBeCloseTo(own[i], 4);
    }
    if (method.card.merges) {
      for (const [i, logit] of (await errorOf(true)).entries()) expect(logit).toBeCloseTo(own[i], 4);
    }
  });
});
