import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Rng } from '../base/rng.js';
import { f32 } from '../base/tensor.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { createAdapter } from '../methods/adapter.js';
import { methodNamed } from '../methods/index.js';
import { type BaseModel, openModel } from '../models/base.js';
import { listCheckpoints } from './checkpoint.js';
import type { Example } from './data/encode.js';
import { type TrainEvent, type TrainLoopInput, trainLoop } from './loop.js';
import { causalLm } from './objectives/causalLm.js';
import { AdamW, clipFactor, globalNorm } from './optimizer.js';
import { parseTrainOptions } from './options.js';
import { scheduleFactor } from './schedule.js';

describe('schedules', () => {
  it.each([
    ['linear', [0, 0.5, 1, 0.75, 0.5, 0.25]],
    ['constant', [0, 0.5, 1, 1, 1, 1]],
    ['cosine', [0, 0.5, 1, 0.853553, 0.5, 0.146447]],
  ] as const)('%s follows transformers', (name, expected) => {
    expected.forEach((e, i) => expect(scheduleFactor(name, i, 2, 6)).toBeCloseTo(e, 5));
  });
});

describe('AdamW', () => {
  it('first moves by the learning rate against the sign of the gradient, after decay', () => {
    const values = new Map([['p', f32(Float32Array.of(1, -2), [2])]]);
    new AdamW({ betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.1 }).step(
      values,
      new Map([['p', f32(Float32Array.of(3, -4), [2])]]),
      0.01,
    );
    expect(values.get('p')!.data[0]).toBeCloseTo(1 * (1 - 0.001) - 0.01, 6);
    expect(values.get('p')!.data[1]).toBeCloseTo(-2 * (1 - 0.001) + 0.01, 6);
  });
  it('clips to the global norm', () => {
    const norm = globalNorm([f32(Float32Array.of(3), [1]), f32(Float32Array.of(4), [1])]);
    expect(norm).toBe(5);
    expect(clipFactor(norm, 1)).toBeCloseTo(0.2, 5);
    expect(clipFactor(norm, 0)).toBe(1);
    expect(clipFactor(0.5, 1)).toBe(1);
  });
});

/** Changes one bit in the middle of a file. */
async function flip(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[bytes.length >> 1] ^= 1;
  await writeFile(path, bytes);
}

describe('training loop', () => {
  const runtime = new NodeRuntime();
  let model: BaseModel;
  let folder: string;
  beforeAll(async () => {
    model = await openModel(fileURLToPath(new URL('../../test/golden/fixtures/llama2', import.meta.url)));
    folder = await mkdtemp(join(tmpdir(), 'lowrank-loop-'));
  });
  afterAll(async () => {
    await runtime.close();
    await rm(folder, { recursive: true });
  });

  const rng = new Rng(5, 'examples');
  const examples: Example[] = Array.from({ length: 12 }, (_, line) => {
    const ids = Int32Array.from({ length: 4 + rng.below(8) }, (_, i) => (i * 3 + line) % 90);
    return { ids, supervised: Uint8Array.from(ids, (_, i) => (i > 1 ? 1 : 0)), line };
  });

  const start = async (
    extra: Partial<TrainLoopInput<Example>> & { hyper?: object; config?: object } = {},
  ) => {
    const { hyper, config, ...rest } = extra;
    const method = methodNamed('lora');
    const adapter = await createAdapter(
      method,
      method.parse('c', { r: 4, targetModules: 'all-linear', ...config }),
      model,
      3,
    );
    const options = parseTrainOptions('o', {
      maxSteps: 8,
      batchSize: 4,
      learningRate: 0.01,
      microBatchTokens: 32,
      seed: 1,
      ...hyper,
    });
    const job = { runtime, model, adapter, objective: causalLm, examples, options };
    return { adapter, events: trainLoop({ ...job, ...rest }) };
  };
  const collect = async (events: AsyncGenerator<TrainEvent>) => {
    const all: TrainEvent[] = [];
    for await (const e of events) all.push(e);
    return all;
  };
  const losses = (events: TrainEvent[]) => events.flatMap((e) => (e.kind === 'step' ? [e.loss] : []));

  it('learns, and repeats bit for bit by its seed, dropout included', async () => {
    const config = { loraDropout: 0.2 };
    const one = losses(await collect((await start({ config })).events));
    const two = losses(await collect((await start({ config })).events));
    expect(one).toHaveLength(8);
    expect(one.at(-1)!).toBeLessThan(one[0]);
    expect(two).toEqual(one);
    const other = losses(await collect((await start({ config, hyper: { seed: 2 } })).events));
    expect(other).not.toEqual(one);
  });

  it('computes the same gradient whatever the micro-batch', async () => {
    const small = losses(await collect((await start({ hyper: { microBatchTokens: 12 } })).events));
    const large = losses(await collect((await start({ hyper: { microBatchTokens: 4096 } })).events));
    small.forEach((loss, i) => expect(Math.abs(loss / large[i] - 1)).toBeLessThan(1e-4));
  });

  it('goes on from a checkpoint with the losses of an uninterrupted run', async () => {
    const config = { loraDropout: 0.1 };
    const whole = await collect(
      (await start({ config, evalExamples: examples.slice(0, 3), hyper: { evalSteps: 2 } })).events,
    );
    const run = join(folder, 'resume');
    const abort = new AbortController();
    const first: TrainEvent[] = [];
    const part = await start({
      config,
      evalExamples: examples.slice(0, 3),
      hyper: { evalSteps: 2 },
      run,
      signal: abort.signal,
    });
    for await (const e of part.events) {
      first.push(e);
      if (e.kind === 'step' && e.step === 3) abort.abort();
    }
    expect(first.at(-1)).toMatchObject({ kind: 'stopped', step: 3 });
    expect(await listCheckpoints(run)).toHaveLength(1);
    const rest = await start({
      config,
      evalExamples: examples.slice(0, 3),
      hyper: { evalSteps: 2 },
      run,
      resume: true,
    });
    const second = await collect(rest.events);
    expect(second[0]).toMatchObject({ kind: 'start', step: 3, resumed: true });
    expect([...losses(first), ...losses(second)]).toEqual(losses(whole));
    const evals = (events: TrainEvent[]) => events.flatMap((e) => (e.kind === 'eval' ? [e] : []));
    expect([...evals(first), ...evals(second)]).toEqual(evals(whole));
  });

  it('refuses to go on with other options, and says which', async () => {
    const run = join(folder, 'other');
    const done = await start({ run, hyper: { saveSteps: 4 }, fingerprint: '{"seed":1}' });
    await collect(done.events);
    const again = await start({ run, resume: true, fingerprint: '{"seed":2}' });
    await expect(collect(again.events)).rejects.toThrow('other options, data or model (seed was 1, is 2)');
  });

  it('goes on from the checkpoint before where the newest is damaged, and says so', async () => {
    const run = join(folder, 'damaged');
    const hyper = { saveSteps: 2, saveTotalLimit: 3 };
    const whole = await collect((await start({ run, hyper })).events);
    const [two, four, six] = await listCheckpoints(run);
    await flip(join(six, 'state.safetensors'));
    const again = await collect((await start({ run, hyper, resume: true })).events);
    expect(again[0]).toMatchObject({
      step: 4,
      resumed: true,
      damaged: [`${six} is damaged: its checksums do not match`],
    });
    expect(losses(again)).toEqual(losses(whole).slice(4));

    await rm(join(six, 'state.json'));
    await flip(join(four, 'state.json'));
    const third = await collect((await start({ run, hyper, resume: true })).events);
    expect(third[0]).toMatchObject({ step: 2, damaged: [expect.stringContaining(six), expect.anything()] });
    expect(losses(third)).toEqual(losses(whole).slice(2));

    for (const one of await listCheckpoints(run)) await flip(join(one, 'state.safetensors'));
    await expect(collect((await start({ run, hyper, resume: true })).events)).rejects.toThrow(
      new RegExp(`^no checkpoint of .*${basename(two)} is damaged.*start over with --overwrite$`),
    );
  });

  it('stops, and does not end, when told to while a checkpoint is due', async () => {
    const abort = new AbortController();
    const run = join(folder, 'due');
    const seen: TrainEvent[] = [];
    for await (const e of (await start({ run, hyper: { saveSteps: 2 }, signal: abort.signal })).events) {
      if (e.kind === 'checkpoint') abort.abort();
      seen.push(e);
    }
    expect(seen.at(-1)).toMatchObject({ kind: 'stopped', step: 3 });
  });

  it('ends with the values of its best evaluation', async () => {
    const { adapter, events } = await start({
      evalExamples: examples.slice(0, 3),
      // A learning rate that ruins the model after it first helps.
      hyper: { evalSteps: 1, learningRate: 0.3, schedule: 'constant', maxSteps: 6 },
    });
    let best: { step: number; data: Float32Array } | undefined;
    let end: TrainEvent | undefined;
    const name = adapter.trainables[0].name;
    for await (const e of events) {
      if (e.kind === 'eval' && e.best) best = { step: e.step, data: adapter.values.get(name)!.data.slice() };
      end = e;
    }
    expect(end).toMatchObject({ kind: 'end', bestStep: best!.step });
    expect(adapter.values.get(name)!.data).toEqual(best!.data);
  });

  it('stops early when its evaluations get no better, also across a resume', async () => {
    const hyper = {
      evalSteps: 1,
      saveSteps: 1,
      learningRate: 0.3,
      schedule: 'constant',
      maxSteps: 40,
      earlyStoppingPatience: 3,
    };
    const evalExamples = examples.slice(0, 3);
    const whole = await collect((await start({ evalExamples, hyper })).events);
    const evals = whole.flatMap((e) => (e.kind === 'eval' && e.step > 0 ? [e] : []));
    expect(evals.length).toBeGreaterThan(3);
    expect(evals.slice(-4).map((e) => e.best)).toEqual([true, false, false, false]);
    const end = { kind: 'end', early: true, step: evals.length, bestStep: evals.length - 3 };
    expect(whole.at(-1)).toMatchObject(end);

    const run = join(folder, 'early');
    const abort = new AbortController();
    for await (const e of (await start({ evalExamples, hyper, run, signal: abort.signal })).events) {
      if (e.kind === 'step' && e.step === evals.length - 1) abort.abort();
    }
    const rest = await collect((await start({ evalExamples, hyper, run, resume: true })).events);
    expect(rest.at(-1)).toMatchObject(end);
  });

  it('takes a smaller gain than the threshold for none', async () => {
    const hyper = { evalSteps: 1, earlyStoppingPatience: 2, earlyStoppingThreshold: 1e3 };
    const events = await collect((await start({ evalExamples: examples.slice(0, 3), hyper })).events);
    expect(events.at(-1)).toMatchObject({ kind: 'end', early: true, step: 3 });
  });

  it('refuses patience without evaluations', async () => {
    const patient = { earlyStoppingPatience: 2 };
    await expect(collect((await start({ hyper: patient })).events)).rejects.toThrow('evalData or evalSplit');
    const evaluated = await start({ hyper: patient, evalExamples: examples.slice(0, 3) });
    await expect(collect(evaluated.events)).rejects.toThrow('evaluations on the way: evalSteps');
  });

  it('stops at a loss that is not finite, and says at which step', async () => {
    const { adapter, events } = await start();
    adapter.values.get(adapter.trainables[1].name)!.data.fill(Number.NaN);
    await expect(collect(events)).rejects.toThrow('training stopped at step 1: the loss is NaN');
  });

  it('stops at a learning rate that overflows float32, in the last step too', async () => {
    const { events } = await start({ hyper: { learningRate: 1e39, maxSteps: 1 } });
    await expect(collect(events)).rejects.toThrow(
      'training stopped at step 1: a step at learning rate 1e+39 overflows float32; try a lower learning rate',
    );
  });
});
