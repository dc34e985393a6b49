import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { readJson } from '../../src/formats/io/node.js';
import { peftFileName } from '../../src/formats/peftNames.js';
import { arranged } from '../../src/graph/emit.js';
import type { Adapter } from '../../src/methods/adapter.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import type { Example } from '../../src/train/data/encode.js';
import type { Pair } from '../../src/train/data/pairs.js';
import { trainLoop } from '../../src/train/loop.js';
import type { Objective } from '../../src/train/objective.js';
import { objectiveFor, parseObjective } from '../../src/train/objectives/named.js';
import { prepared } from '../../src/train/preparation.js';
import { LossStep, TrainStep, trainGraph } from '../../src/train/step.js';
import { slopeAlong } from './finiteDifferences.js';
import { LIMITS, openSuite, type StepEvent, worst } from './fixture.js';
import {
  golden,
  openTensors,
  relativeError,
  runSchema,
  trainOptions,
  worstRelativeError,
} from './reference.js';

// DPO, IPO and ORPO against the papers' equations in PyTorch + PEFT, which TRL's own code agrees with
// (scripts/parity/make_preference_fixtures.py).

const ids = z.array(z.int());
const expectedSchema = runSchema.extend({
  base: z.string(),
  reference: z.enum(['base', 'start']),
  objective: z.string(),
  beta: z.number(),
  lossType: z.string().optional(),
  labelSmoothing: z.number().optional(),
  pairs: z.array(z.object({ prompt: ids, chosen: ids, rejected: ids })),
  rewards: z.array(z.tuple([z.number(), z.number()])),
});

const { runtime } = openSuite('preferences');
const cases = readdirSync(golden('fixtures-preferences'));

it('has its fixtures', () => expect(cases).toHaveLength(6));

describe.each(cases)('%s', (name) => {
  let expected: z.output<typeof expectedSchema>;
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let model: BaseModel;
  let objective: Objective<Pair>;
  let pairs: Pair[];
  beforeAll(async () => {
    const at = golden(`fixtures-preferences/${name}`);
    expected = await readJson(join(at, 'expected.json'), expectedSchema);
    tensors = await openTensors(join(at, 'expected.safetensors'));
    model = await openModel(golden(`fixtures/${expected.base}`));
    const { objective: asked, beta, lossType, labelSmoothing } = expected;
    const given = parseObjective('fixture', { objective: asked, beta, lossType, labelSmoothing });
    objective = objectiveFor(model, given) as unknown as Objective<Pair>;
    pairs = expected.pairs.map(({ prompt, ...answers }, i) => {
      const side = (answer: readonly number[]): Example => ({
        ids: Int32Array.from([...prompt, ...answer]),
        supervised: Uint8Array.from([...prompt.map(() => 0), ...answer.map(() => 1)]),
        line: i + 1,
      });
      return { chosen: side(answers.chosen), rejected: side(answers.rejected), line: i + 1 };
    });
  });

  const load = (): Promise<Adapter> => readAdapterFor(golden(`fixtures/${expected.base}/adapter`), model);

  /** The pairs with what the reference says of them. */
  async function withReference(adapter: Adapter): Promise<readonly Pair[]> {
    if (!objective.preparation) return pairs;
    const reference = expected.reference === 'start' ? adapter : undefined;
    // Micro-batches of one pair and of several.
    const context = { runtime, model, adapter: reference, session: {}, microBatchTokens: 30 };
    const [found] = await prepared(objective.preparation, [pairs], context);
    return [...found];
  }

  const together = (given: readonly Pair[]) => objective.batching.assembled(given.map((pair) => [pair]));

  it('what the reference says of each answer', async () => {
    const theirs = tensors.names.includes('reference') ? await tensors.read('reference') : [];
    const ours = (await withReference(await load())).flatMap(({ reference = [] }) => [...reference]);
    expect(ours).toHaveLength(theirs.length);
    if (theirs.length > 0) expect(relativeError(ours, theirs)).toBeLessThan(LIMITS.loss);
  });

  it('loss, rewards and the gradient of every A and B', async () => {
    const adapter = await load();
    const micro = together(await withReference(adapter));
    const step = await TrainStep.create(runtime, model, adapter, { objective: objective as Objective });
    const { loss, logits, grads } = await step.run(micro, 1 / micro.weight!);
    await step.close();
    expect(Math.abs(loss / expected.loss - 1)).toBeLessThan(LIMITS.loss);
    const rewards = await tensors.read('rewards');
    expect(logits!.data).toHaveLength(rewards.length);
    for (const [i, reward] of rewards.entries()) expect(logits!.data[i]).toBeCloseTo(reward, 4);
    const { nodes } = arranged(
      Object.values(trainGraph(model, adapter, { objective: objective as Objective }).outputs),
    );
    // Logits exist some rows at a time, but where they are capped.
    expect(nodes.some(({ op }) => op === 'headLoss')).toBe(expected.base !== 'gemma2');
    const byName = new Map(adapter.trainables.map((t) => [t.name, t]));
    expect(grads.size).toBe(tensors.names.filter((key) => key.startsWith('grad.')).length);
    for (const [trainable, { data }] of grads) {
      const theirs = await tensors.read(`grad.${peftFileName(trainable, byName)}`);
      expect(relativeError(data, theirs), trainable).toBeLessThan(LIMITS.gradient);
    }
  });

  it('the gradient is the slope of the loss', async () => {
    const adapter = await load();
    const micro = together(await withReference(adapter));
    const train = await TrainStep.create(runtime, model, adapter, { objective: objective as Objective });
    const evaluation = await LossStep.create(runtime, model, adapter, { objective: objective as Objective });
    const { grads } = await train.run(micro, 1);
    const direction = new Map([...grads].map(([key, { data }]) => [key, data]));
    const square = [...direction.values()].reduce((n, data) => n + data.reduce((m, x) => m + x * x, 0), 0);
    const loss = async () => (await evaluation.run(micro)).lossSum;
    const slope = await slopeAlong(direction, adapter.values, 1e-2 / Math.sqrt(square), loss);
    await train.close();
    await evaluation.close();
    expect(Math.abs(slope / square - 1)).toBeLessThan(2e-2);
  });

  it('losses and rewards of 20 AdamW steps, from a reference of its own', async () => {
    const adapter = await load();
    // As if its method had started it so: then the reference is the base.
    adapter.isNew = expected.reference === 'base';
    const options = { ...trainOptions(expected.recipe, pairs.length), microBatchTokens: 40 };
    const steps: StepEvent[] = [];
    for await (const event of trainLoop({ runtime, model, adapter, objective, examples: pairs, options })) {
      if (event.kind === 'step') steps.push(event);
    }
    expect(worst(steps, 'loss', expected.losses)).toBeLessThan(LIMITS.losses);
    expect(worst(steps, 'gradNorm', expected.grad_norms)).toBeLessThan(LIMITS.norms);
    const rewards = steps.map(({ rewardsChosen, rewardsRejected }) => [rewardsChosen!, rewardsRejected!]);
    const error = relativeError(rewards.flat(), expected.rewards.flat());
    expect(error).toBeLessThan(LIMITS.losses);
    for (const [i, { rewardsMargins }] of steps.entries()) {
      expect(rewardsMargins).toBeCloseTo(rewards[i][0] - rewards[i][1], 10);
    }
    expect(worstRelativeError([steps.at(-1)!.loss], [expected.losses.at(-1)!])).toBeLessThan(LIMITS.losses);
  });
});
