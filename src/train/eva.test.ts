import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NodeRuntime } from '../graph/runtime/node.js';
import { lora } from '../methods/lora.js';
import { type BaseModel, openModel } from '../models/base.js';
import type { Site } from '../models/model.js';
import type { Example } from './data/encode.js';
import { planEva, redistribute } from './eva.js';

describe('ranks by explained variance', () => {
  const site = (name: string, width = 8, out = 8): Site => ({
    name,
    kind: 'linear',
    role: 'attention.q',
    in: width,
    out,
    bias: false,
  });
  const wanted = new Map([
    ['q', 2],
    ['v', 2],
    ['o', 2],
  ]);
  const groups = (out: number) => [
    { sites: [site('q', 8, out), site('v')], components: 4 },
    { sites: [site('o')], components: 4 },
  ];
  const ranksOf = (shared: number[], own: number[], out = 8) =>
    Object.fromEntries(redistribute(groups(out), [{ ratios: shared }, { ratios: own }], wanted));

  it('are as many as were asked for, the largest parts first', () => {
    expect(ranksOf([0.5, 0.3, 0.1, 0.05], [0.2, 0.15, 0.14, 0.01])).toEqual({ q: 2, v: 2, o: 2 });
    expect(ranksOf([0.2, 0.02, 0.01, 0], [0.4, 0.3, 0.2, 0.1])).toEqual({ q: 1, v: 1, o: 4 });
    expect(ranksOf([0.1, 0.05, 0.01, 0], [0.9, 0.06, 0.055, 0.051])).toEqual({ q: 1, v: 1, o: 4 });
    expect(ranksOf([0.5, 0.3, 0.2, 0.1], [0.05, 0.01, 0.01, 0])).toEqual({ q: 3, v: 3 });
  });

  it('tie in favour of the first site of an input', () => {
    expect(ranksOf([0.5, 0.3, 0.2, 0.1], [0.6, 0, 0, 0])).toEqual({ q: 3, v: 2, o: 1 });
  });

  it('go to no direction in which nothing varies, and to none that a matrix cannot have', () => {
    expect(ranksOf([0.5, 0, 0, 0], [0.5, 0, 0, 0])).toEqual({ q: 1, v: 1, o: 1 });
    expect(ranksOf([0.5, 0.3, 0.2, 0.1], [0.05, 0, 0, 0], 1)).toEqual({ q: 1, v: 4, o: 1 });
  });
});

describe('a plan', () => {
  const runtime = new NodeRuntime();
  let model: BaseModel;
  beforeAll(async () => {
    model = await openModel(fileURLToPath(new URL('../../test/golden/fixtures/llama2', import.meta.url)));
  });
  afterAll(() => runtime.close());

  const examples: Example[] = Array.from({ length: 8 }, (_, line) => ({
    ids: Int32Array.from({ length: 9 }, (_, i) => (i * 5 + line * 7) % 90),
    supervised: Uint8Array.from({ length: 9 }, (_, i) => Number(i > 4)),
    line,
  }));
  const plan = (config: object, rows = examples, more: object = {}) =>
    planEva(runtime, model, lora.parse('c', { initLoraWeights: 'eva', ...config }), rows, {
      batches: 4,
      batchSize: 2,
      microBatchTokens: 64,
      seed: 3,
      ...more,
    });

  it('looks at the tokens that are learned, or at all', async () => {
    expect(await plan({ r: 2 }, examples, { batchSize: 8 })).toMatchObject({ batches: 1, tokens: 32 });
    const all = { r: 2, eva_config: { use_label_mask: false } };
    expect(await plan(all, examples, { batchSize: 8 })).toMatchObject({ batches: 1, tokens: 72 });
  });

  it('ends when the directions have settled, and else with the batches', async () => {
    expect(await plan({ r: 2, eva_config: { tau: 0 } })).toMatchObject({ batches: 2, settled: true });
    expect(await plan({ r: 2, eva_config: { tau: 1 } })).toMatchObject({ batches: 4, settled: false });
    expect(await plan({ r: 2, eva_config: { tau: 1 } }, examples, { batches: 3 })).toMatchObject({
      batches: 3,
    });
  });

  it('is the same where the inputs of layers are looked at in parts', async () => {
    const config = { r: 2, targetModules: 'all-linear', eva_config: { tau: 1 } };
    const whole = await plan(config);
    const told = await plan(config, examples, { partBytes: 5000 });
    expect(told).toEqual(whole);
  });

  it('tells how far it is, and ends at a signal', async () => {
    const told: number[] = [];
    const stopped = new AbortController();
    const config = lora.parse('c', { r: 2, initLoraWeights: 'eva', eva_config: { tau: 1 } });
    const options = { batches: 4, batchSize: 2, microBatchTokens: 64, seed: 3 };
    const onProgress = ({ done, total }: { done: number; total: number }) => {
      expect(total).toBe(4);
      told.push(done);
      if (told.length === 2) stopped.abort();
    };
    const work = { onProgress, signal: stopped.signal };
    await expect(planEva(runtime, model, config, examples, options, work)).rejects.toThrow('aborted');
    expect(told).toEqual([1, 2]);
  });

  it.each([
    [{ targetModules: ['embed_tokens', 'q_proj'] }, 'model.embed_tokens is an embedding: leave it out'],
    [{ r: 33 }, 'r 33 is larger than model.layers.0.self_attn.q_proj allows: its matrix is 32 × 32'],
    [
      { r: 16 },
      'looks for 32 directions in what enters model.layers.0.self_attn.q_proj, and the data have 32 tokens for it: lower r',
    ],
  ])('refuses %j', async (config, message) => {
    await expect(plan(config)).rejects.toThrow(message);
  });
});
