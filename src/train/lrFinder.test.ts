import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NodeRuntime } from '../graph/runtime/node.js';
import { createAdapter } from '../methods/adapter.js';
import { methodNamed } from '../methods/index.js';
import { type BaseModel, openModel } from '../models/base.js';
import type { Example } from './data/encode.js';
import { DivergenceWatch, findLearningRate, type LrEvent, parseLrRange, suggest } from './lrFinder.js';
import { causalLm } from './objectives/causalLm.js';
import { parseTrainOptions } from './options.js';

const rateAt = (i: number) => 1e-6 * 10 ** (i / 15);

describe('what a range test suggests', () => {
  // Flat at 5, down to 3 about step 50, up again about step 80.
  const loss = (i: number) => 5 - 2 / (1 + Math.exp((50 - i) / 4)) + 4 / (1 + Math.exp((80 - i) / 2));

  it('is where the loss falls fastest, and a tenth of where it is lowest', () => {
    const found = suggest(Array.from({ length: 90 }, (_, i) => ({ learningRate: rateAt(i), loss: loss(i) })));
    expect(found.steepest).toBe(rateAt(50));
    const lowest = (found.tenthOfLowest! * 10) / rateAt(0);
    expect(Math.round(Math.log10(lowest) * 15)).toBeGreaterThan(60);
    expect(Math.round(Math.log10(lowest) * 15)).toBeLessThan(72);
  });

  it('bears noise', () => {
    const noise = (i: number) => 0.25 * Math.sin(i * 12.9898) * Math.cos(i * 78.233);
    const found = suggest(
      Array.from({ length: 90 }, (_, i) => ({ learningRate: rateAt(i), loss: loss(i) + noise(i) })),
    );
    const past = suggest([...found.points, ...[9, 6, 3.5].map((loss) => ({ learningRate: 1, loss }))]);
    expect(past.steepest).toBeLessThan(0.1);
    expect(Math.abs(Math.log10(found.steepest! / rateAt(50)))).toBeLessThan(0.5);
  });

  it('is nothing where the loss never falls', () => {
    const rising = Array.from({ length: 50 }, (_, i) => ({ learningRate: rateAt(i), loss: 2 + i / 50 }));
    expect(suggest(rising)).toMatchObject({ steepest: undefined, tenthOfLowest: undefined });
    expect(suggest([])).toMatchObject({ points: [], steepest: undefined });
    expect(suggest(rising.slice(0, 1))).toMatchObject({ steepest: undefined });
  });
});

describe('divergence', () => {
  const endOf = (losses: number[]) => {
    const watch = new DivergenceWatch();
    return losses.findIndex((loss) => watch.add(loss));
  };
  const flat = (n: number, loss: number) => Array.from({ length: n }, (_, i) => loss + 0.5 * (i % 2));

  it('is a loss well above its start, or its lowest', () => {
    expect(endOf([...flat(40, 5), ...flat(40, 3)])).toBe(-1);
    expect(endOf([...flat(40, 5), ...flat(20, 3), ...flat(20, 8)])).toBeGreaterThan(60);
    expect(endOf([...flat(40, 5), ...flat(30, 0.4), ...flat(20, 4)])).toBeGreaterThan(70);
    expect(endOf([5, 7, 4, 6, 8, 3, ...flat(60, 5)])).toBe(-1);
  });
});

describe('the options of a range test', () => {
  it('are a range that rises', () => {
    expect(parseLrRange('o', {})).toEqual({ minLr: 1e-6, maxLr: 1, lrSteps: 100 });
    expect(() => parseLrRange('o', { minLr: 1e-2, maxLr: 1e-3 })).toThrow('o: minLr 0.01 is not below maxLr');
    expect(() => parseLrRange('o', { lrSteps: 3 })).toThrow('lrSteps');
  });
});

describe('the range test', () => {
  const runtime = new NodeRuntime();
  let model: BaseModel;
  beforeAll(async () => {
    model = await openModel(fileURLToPath(new URL('../../test/golden/fixtures/llama2', import.meta.url)));
  });
  afterAll(() => runtime.close());

  const examples: Example[] = Array.from({ length: 12 }, (_, line) => {
    const ids = Int32Array.from({ length: 4 + (line % 5) }, (_, i) => (i * 3 + line) % 90);
    return { ids, supervised: Uint8Array.from(ids, (_, i) => (i > 1 ? 1 : 0)), line };
  });
  const find = async (range: object, signal?: AbortSignal) => {
    const method = methodNamed('lora');
    const config = method.parse('c', { r: 4, targetModules: 'all-linear' });
    const adapter = await createAdapter(method, config, model, 3);
    const before = [...adapter.values].map(([name, t]) => [name, t.data.slice()] as const);
    const options = parseTrainOptions('o', { batchSize: 4 });
    const events: LrEvent[] = [];
    const job = { runtime, model, adapter, objective: causalLm, examples, options, signal, session: {} };
    for await (const event of findLearningRate(job, parseLrRange('r', range))) events.push(event);
    expect([...adapter.values].map(([name, t]) => [name, t.data])).toEqual(before);
    expect(adapter.state).toEqual({ tensors: new Map(), values: {} });
    const last = events.at(-1)!;
    if (last.kind !== 'lrFound') throw new Error('no result');
    return last;
  };

  it('raises the rate by equal factors, and leaves the adapter as it is', async () => {
    const { points, end } = await find({ minLr: 1e-5, maxLr: 1e-3, lrSteps: 21 });
    expect(end).toBe('reached the last rate');
    expect(points).toHaveLength(21);
    expect(points[0].learningRate).toBeCloseTo(1e-5, 12);
    expect(points[10].learningRate).toBeCloseTo(1e-4, 9);
    expect(points[20].learningRate).toBeCloseTo(1e-3, 9);
  });

  it('ends where the loss is no longer finite', async () => {
    const { points, end, steepest } = await find({ minLr: 1e-4, maxLr: 1e300, lrSteps: 400 });
    expect(end).toBe('diverged');
    expect(points.length).toBeLessThan(400);
    expect(points.every(({ loss }) => Number.isFinite(loss))).toBe(true);
    expect(steepest).toBeLessThan(points.at(-1)!.learningRate);
  });

  it('ends when it is interrupted', async () => {
    expect(await find({}, AbortSignal.abort())).toMatchObject({ end: 'interrupted', steepest: undefined });
  });
});
