import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { add, mul, scalar, sum } from '../graph/ops/index.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { createAdapter } from '../methods/adapter.js';
import { type LoraConfig, lora } from '../methods/lora.js';
import type { Method } from '../methods/method.js';
import { type BaseModel, openModel } from '../models/base.js';
import type { Example } from './data/encode.js';
import { type TrainEvent, type TrainLoopInput, trainLoop } from './loop.js';
import { causalLm } from './objectives/causalLm.js';
import { parseTrainOptions } from './options.js';
import { PenaltyStep } from './penalty.js';

const SITES = ['model.layers.0.self_attn.q_proj', 'model.layers.1.self_attn.q_proj'];
const A = SITES.map((site) => `${site}.lora_A`);
const WEIGHT = 3;

/**
 * A LoRA that pulls its A toward zero, and prunes: it sums |p·g| of each A over the steps, and halfway clears the A
 * with the lower sum for good.
 */
const toy: Method<LoraConfig> = {
  ...lora,
  penalty: (_, { param }) => {
    const [first, second] = A.map((name) => sum(mul(param(name), param(name)), [0, 1]));
    return mul(add(first, second), scalar(WEIGHT));
  },
  onStart: (_, { steps }) => {
    if (steps < 2) throw new UserError(`the toy needs 2 steps, not ${steps}`);
  },
  onStep: (_, { step, steps, values, grads, clip, state }) => {
    for (const name of A) {
      const [p, g] = [values.get(name)!.data, grads.get(name)!.data];
      const total = state.tensors.get(name)?.data ?? new Float32Array(1);
      total[0] += p.reduce((all, value, i) => all + Math.abs(value * g[i] * clip), 0);
      state.tensors.set(name, f32(total, [1]));
    }
    if (step === steps / 2) {
      const [first, second] = A.map((name) => state.tensors.get(name)!.data[0]);
      state.values.pruned = first < second ? A[0] : A[1];
    }
    if (state.values.pruned) values.get(String(state.values.pruned))!.data.fill(0);
  },
};

describe('hooks of a method', () => {
  const runtime = new NodeRuntime();
  let model: BaseModel;
  let folder: string;
  beforeAll(async () => {
    model = await openModel(fileURLToPath(new URL('../../test/golden/fixtures/llama2', import.meta.url)));
    folder = await mkdtemp(join(tmpdir(), 'lowrank-hooks-'));
  });
  afterAll(async () => {
    await runtime.close();
    await rm(folder, { recursive: true });
  });

  const examples: Example[] = Array.from({ length: 8 }, (_, line) => {
    const ids = Int32Array.from({ length: 4 + line }, (_, i) => (i * 3 + line) % 90);
    return { ids, supervised: Uint8Array.from(ids, (_, i) => (i > 1 ? 1 : 0)), line };
  });
  const run = (job: Pick<TrainLoopInput<Example>, 'adapter' | 'options'>) =>
    trainLoop({ runtime, model, objective: causalLm, examples, ...job });
  const adapterOf = (method: Method<LoraConfig>) =>
    createAdapter(method, method.parse('c', { r: 2, targetModules: SITES }), model, 3);
  const start = async (
    method: Method<LoraConfig>,
    hyper: object = {},
    extra: Partial<TrainLoopInput<Example>> = {},
  ) => {
    const adapter = await adapterOf(method);
    const options = parseTrainOptions('o', { maxSteps: 6, batchSize: 4, learningRate: 0.01, ...hyper });
    return { adapter, events: run({ adapter, options, ...extra }) };
  };
  const stepsOf = async (events: AsyncGenerator<TrainEvent>) => {
    const steps: Extract<TrainEvent, { kind: 'step' }>[] = [];
    for await (const event of events) if (event.kind === 'step') steps.push(event);
    return steps;
  };

  it('gives the penalty and its gradient', async () => {
    const adapter = await adapterOf(toy);
    const step = (await PenaltyStep.create(runtime, adapter))!;
    const { penalty, grads } = await step.run();
    await step.close();
    const values = A.map((name) => adapter.values.get(name)!.data);
    const squares = values.map((data) => data.reduce((total, v) => total + v * v, 0));
    expect(penalty).toBeCloseTo(WEIGHT * (squares[0] + squares[1]), 5);
    expect([...grads.keys()]).toEqual(A);
    for (const [i, name] of A.entries()) {
      grads.get(name)!.data.forEach((g, j) => expect(g).toBeCloseTo(2 * WEIGHT * values[i][j], 5));
    }
    expect(await PenaltyStep.create(runtime, await adapterOf(lora))).toBeUndefined();
  });

  it('adds the penalty once a step, however many micro-batches, and reports it apart from the loss', async () => {
    const few = await stepsOf((await start(toy, { microBatchTokens: 4096 })).events);
    const many = await stepsOf((await start(toy, { microBatchTokens: 12 })).events);
    const plain = await stepsOf((await start(lora)).events);
    expect(few[0].penalty).toBeGreaterThan(0);
    // B starts at zero, so that A's gradient in the first step is the penalty's.
    expect(few[0].loss).toBeCloseTo(plain[0].loss, 5);
    expect(few[0].gradNorm).toBeGreaterThan(plain[0].gradNorm);
    many.forEach((step, i) => {
      expect(step.gradNorm / few[i].gradNorm).toBeCloseTo(1, 3);
      expect(step.penalty! / few[i].penalty!).toBeCloseTo(1, 3);
    });
    expect(plain[0].penalty).toBeUndefined();
  });

  it('goes on from a checkpoint with what the method kept', async () => {
    const whole = await start(toy);
    const wholeSteps = await stepsOf(whole.events);
    const pruned = String(whole.adapter.state.values.pruned);
    expect(A).toContain(pruned);
    expect([...whole.adapter.values.get(pruned)!.data].every((v) => v === 0)).toBe(true);

    for (const stopAt of [1, 4]) {
      const run = join(folder, `stopped-at-${stopAt}`);
      const abort = new AbortController();
      const first = await start(toy, {}, { run, signal: abort.signal });
      for await (const event of first.events)
        if (event.kind === 'step' && event.step === stopAt) abort.abort();
      const rest = await start(toy, {}, { run, resume: true });
      const steps = await stepsOf(rest.events);
      expect(steps.map((s) => s.loss)).toEqual(wholeSteps.slice(stopAt).map((s) => s.loss));
      expect(rest.adapter.state).toEqual(whole.adapter.state);
    }
  });

  it('starts every run with an empty state, and may refuse it', async () => {
    const { adapter, events } = await start(toy);
    await stepsOf(events);
    const options = parseTrainOptions('o', { maxSteps: 4 });
    for await (const event of run({ adapter, options })) {
      if (event.kind === 'step' && event.step === 1) expect(adapter.state.values).toEqual({});
    }
    expect(adapter.state.values).toHaveProperty('pruned');
    const short = parseTrainOptions('o', { maxSteps: 1 });
    const refused = run({ adapter, options: short });
    await expect(stepsOf(refused)).rejects.toThrow('the toy needs 2 steps, not 1');
  });
});
