import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Rng } from '../base/rng.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { createAdapter } from '../methods/adapter.js';
import { methodNamed } from '../methods/index.js';
import { type BaseModel, openModel } from '../models/base.js';
import { CHECKPOINTS } from './checkpoint.js';
import type { Example } from './data/encode.js';
import type { Pair } from './data/pairs.js';
import { type TrainEvent, trainLoop } from './loop.js';
import { largestMicroBatch, trainingMemory } from './memory.js';
import type { Objective } from './objective.js';
import { objectiveFor, parseObjective } from './objectives/named.js';
import { parseTrainOptions } from './options.js';

const fixture = (name: string) => fileURLToPath(new URL(`../../test/golden/${name}`, import.meta.url));

describe('options of objectives', () => {
  it('are those of what was asked for, with their defaults', () => {
    expect(parseObjective('o', {})).toBeUndefined();
    expect(parseObjective('o', { objective: 'causal-lm' })).toEqual({ name: 'causal-lm', options: {} });
    expect(parseObjective('o', { objective: 'orpo' })).toEqual({ name: 'orpo', options: { beta: 0.1 } });
    expect(parseObjective('o', { objective: 'dpo', beta: 0.2 })).toEqual({
      name: 'dpo',
      options: { beta: 0.2, lossType: 'sigmoid', labelSmoothing: 0 },
    });
  });

  it.each([
    [{ beta: 0.1 }, 'the option "beta" is for objective dpo or orpo'],
    [{ objective: 'causal-lm', beta: 1 }, 'the option "beta" is for objective dpo or orpo, not causal-lm'],
    [{ objective: 'orpo', lossType: 'ipo' }, 'the option "lossType" is for objective dpo, not orpo'],
    [
      { objective: 'dpo', lossType: 'ipo', labelSmoothing: 0.1 },
      'the option "labelSmoothing" is for lossType "sigmoid" only',
    ],
    [{ objective: 'dpo', beta: 0 }, 'o: key "beta": expected a number above 0'],
    [{ objective: 'dpo', labelSmoothing: 0.5 }, 'o: key "labelSmoothing"'],
    [{ objective: 'kto' }, 'o: key "objective"'],
  ])('%j are refused', (given, message) => {
    expect(() => parseObjective('o', given)).toThrow(message);
  });

  it('need a model that predicts next tokens', async () => {
    const encoder = await openModel(fixture('fixtures-encoders/bert'));
    expect(() => objectiveFor(encoder, parseObjective('o', { objective: 'dpo' }))).toThrow(
      'objective dpo is for a model that predicts next tokens; this one is bert, an encoder',
    );
  });
});

describe('training by preferences', () => {
  const runtime = new NodeRuntime();
  let model: BaseModel;
  let folder: string;
  beforeAll(async () => {
    model = await openModel(fixture('fixtures/llama2'));
    folder = await mkdtemp(join(tmpdir(), 'lowrank-preferences-'));
  });
  afterAll(async () => {
    await runtime.close();
    await rm(folder, { recursive: true });
  });

  // Answers that end as they should are preferred.
  const rng = new Rng(5, 'pairs');
  const draw = (count: number) => Array.from({ length: count }, () => 3 + rng.below(80));
  const pairs: Pair[] = Array.from({ length: 12 }, (_, line) => {
    const prompt = draw(2 + rng.below(4));
    const side = (answer: readonly number[]): Example => ({
      ids: Int32Array.from([...prompt, ...answer]),
      supervised: Uint8Array.from([...prompt.map(() => 0), ...answer.map(() => 1)]),
      line,
    });
    return { chosen: side([...draw(1 + rng.below(4)), 7]), rejected: side([...draw(3), 8]), line };
  });
  const asked = (given: object) =>
    objectiveFor(model, parseObjective('o', given)) as unknown as Objective<Pair>;
  const adapterOf = () => {
    const method = methodNamed('lora');
    return createAdapter(method, method.parse('c', { r: 4, loraDropout: 0.1 }), model, 3);
  };
  const start = async (
    more: object = {},
    hyper: object = {},
    adapter?: Awaited<ReturnType<typeof adapterOf>>,
  ) =>
    trainLoop({
      ...{ runtime, model, adapter: adapter ?? (await adapterOf()), objective: asked({ objective: 'dpo' }) },
      examples: pairs.slice(0, 8),
      evalExamples: pairs.slice(8),
      options: parseTrainOptions('o', {
        maxSteps: 6,
        batchSize: 4,
        learningRate: 0.01,
        microBatchTokens: 40,
        evalSteps: 2,
        ...hyper,
      }),
      ...more,
    });
  const collect = async (events: AsyncGenerator<TrainEvent>) => {
    const all: TrainEvent[] = [];
    for await (const event of events) all.push(event);
    return all;
  };
  const figures = (events: readonly TrainEvent[]) =>
    events.flatMap((event) => {
      if (event.kind !== 'step' && event.kind !== 'eval') return [];
      const { kind, step, loss, rewardsChosen, rewardsRejected, rewardsAccuracies } = event;
      return [{ kind, step, loss, rewardsChosen, rewardsRejected, rewardsAccuracies }];
    });

  it('begins at its reference, and the chosen answers win', async () => {
    const events = figures(await collect(await start()));
    const [before] = events;
    expect(before).toMatchObject({ kind: 'eval', step: 0 });
    expect(before.loss).toBeCloseTo(Math.log(2), 5);
    expect(before.rewardsChosen).toBeCloseTo(0, 5);
    const after = events.findLast(({ kind }) => kind === 'eval')!;
    expect(after.loss).toBeLessThan(before.loss);
    expect(after.rewardsChosen!).toBeGreaterThan(after.rewardsRejected!);
    expect(events.findLast(({ kind }) => kind === 'step')!.rewardsAccuracies).toBe(1);
  });

  it('goes on with the reference that it began with, in the same process and in another', async () => {
    const whole = figures(await collect(await start()));
    const run = join(folder, 'resume');
    const abort = new AbortController();
    const trained = await adapterOf();
    const first: TrainEvent[] = [];
    for await (const event of await start({ run, signal: abort.signal }, {}, trained)) {
      first.push(event);
      if (event.kind === 'step' && event.step === 3) abort.abort();
    }
    expect(first.at(-1)).toMatchObject({ kind: 'stopped', step: 3 });
    const begun = figures(first);
    for (const adapter of [trained, await adapterOf()]) {
      const rest = figures(await collect(await start({ run, resume: true }, {}, adapter)));
      expect([...begun, ...rest]).toEqual(whole);
    }
    await rm(join(run, CHECKPOINTS, 'prepared.safetensors'));
    await expect(collect(await start({ run, resume: true }))).rejects.toThrow(
      'prepared.safetensors is missing, which the run goes on with; begin the run again with --overwrite',
    );
  });

  it('takes an adapter that came trained as its own reference', async () => {
    const adapter = await adapterOf();
    await collect(await start({}, {}, adapter));
    const [again] = figures(await collect(await start({}, { maxSteps: 1 }, adapter)));
    expect(again.loss).toBeCloseTo(Math.log(2), 5);
    // Beside the base it would not begin there.
    adapter.isNew = true;
    const [beside] = figures(await collect(await start({}, { maxSteps: 1 }, adapter)));
    expect(beside.loss).toBeLessThan(again.loss - 0.01);
  });

  it('tells how far the reference is, and stops there when it is told to', async () => {
    const told: { done: number; total: number; unit: string }[] = [];
    const abort = new AbortController();
    const onProgress = (progress: (typeof told)[number]) => {
      told.push(progress);
      abort.abort();
    };
    await expect(collect(await start({ onProgress, signal: abort.signal }))).rejects.toThrow('aborted');
    expect(told[0]).toMatchObject({ total: 12, unit: 'pairs' });
    expect(told).toHaveLength(1);
  });

  it('does not pack', async () => {
    await expect(collect(await start({}, { packing: true }))).rejects.toThrow(
      'packing is not for objective dpo',
    );
  });

  it.each(['dpo', 'orpo'])('the memory of %s is told for two sequences an example', async (name) => {
    const objective = asked({ objective: name }) as Objective;
    expect(largestMicroBatch(100, 1000, 8, 2)).toEqual({ rows: 10, length: 100, rowsOfExample: 2 });
    expect(largestMicroBatch(900, 1000, 8, 2)).toEqual({ rows: 2, length: 900, rowsOfExample: 2 });
    const adapter = await adapterOf();
    const micro = largestMicroBatch(40, 100, 8, 2);
    const of = (one?: Objective) =>
      trainingMemory(model, adapter, { micro, evaluated: micro, objective: one });
    const [pairsOf, plain] = [of(objective), of()];
    expect(pairsOf.total).toBeGreaterThan(plain.total);
    expect(pairsOf.total).toBeLessThan(1.05 * plain.total);
    expect(pairsOf.evaluation).toBeGreaterThan(0);
  });
});
