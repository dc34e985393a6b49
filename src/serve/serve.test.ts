import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Rng } from '../base/rng.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { loadAdapterFolder } from '../methods/files.js';
import { type BaseModel, openModel } from '../models/base.js';
import { KvCache } from './cache.js';
import { DecodeStep } from './decode.js';
import { type FinishReason, generateTokens, parseGenerateOptions, textOf } from './generate.js';
import { argmax, sample } from './sample.js';

describe('sampling', () => {
  const logits = Float32Array.from([0, 2, 1, -1, 1.5]);
  const draws = (options: { temperature: number; topK: number; topP: number }, n = 4000) => {
    const rng = new Rng(1, 's');
    const counts = new Array(5).fill(0);
    for (let i = 0; i < n; i++) counts[sample(logits, options, rng)]++;
    return counts.map((c) => c / n);
  };
  it('is greedy at temperature 0', () => {
    expect(sample(logits, { temperature: 0, topK: 0, topP: 1 }, new Rng(0))).toBe(1);
    expect(argmax(Float32Array.of(1, 3, 3))).toBe(1);
  });
  it('follows the distribution', () => {
    const e = [...logits].map(Math.exp);
    const total = e.reduce((a, b) => a + b);
    draws({ temperature: 1, topK: 0, topP: 1 }).forEach((p, i) =>
      expect(Math.abs(p - e[i] / total)).toBeLessThan(0.03),
    );
  });
  it('keeps the k most likely, and the smallest set of probability p', () => {
    const k = draws({ temperature: 1, topK: 2, topP: 1 });
    expect(k[1] + k[4]).toBe(1);
    // Probabilities 0.46, 0.28, 0.17, …: two tokens reach 0.7.
    const p = draws({ temperature: 1, topK: 0, topP: 0.7 });
    expect(p[1] + p[4]).toBe(1);
    expect(p[4]).toBeGreaterThan(0.2);
    expect(draws({ temperature: 1, topK: 0, topP: 0.01 })[1]).toBe(1);
  });
});

describe('text of tokens', () => {
  const words = ['a', 'b', 'ST', 'OP', 'c', 'S', 'x'];
  async function* ids(list: number[]): AsyncGenerator<number, FinishReason, void> {
    yield* list;
    return 'eos';
  }
  const run = async (list: number[], stop: string[]) => {
    const pieces: string[] = [];
    const gen = textOf(ids(list), { push: (id) => words[id], end: () => '' }, stop);
    for (;;) {
      const next = await gen.next();
      if (next.done) return { text: pieces.join(''), pieces, reason: next.value };
      pieces.push(next.value);
    }
  };
  it('stops before a stop string that tokens spell together', async () => {
    expect(await run([0, 1, 2, 3, 4], ['STOP'])).toMatchObject({ text: 'ab', reason: 'stop' });
  });
  it('lets out what only looked like one', async () => {
    expect(await run([0, 2, 4, 5, 6], ['STOP'])).toMatchObject({ text: 'aSTcSx', reason: 'eos' });
    expect(await run([0, 5], ['STOP'])).toMatchObject({ text: 'aS', reason: 'eos' });
  });
});

describe('decoding', () => {
  const runtime = new NodeRuntime();
  afterAll(() => runtime.close());
  const fixture = fileURLToPath(new URL('../../test/golden/fixtures/mistral', import.meta.url));
  let model: BaseModel;
  beforeAll(async () => {
    model = await openModel(fixture);
  });
  const ids = Array.from({ length: 90 }, (_, i) => (i * 37 + 11) % 96);

  it('gives the same logits token by token, in chunks and at once, past window and cache growth', async () => {
    const step = await DecodeStep.create(runtime, model, undefined);
    const whole = await step.run(ids, new KvCache(model.config));
    for (const sizes of [
      [10, 60, 20],
      [1, 88, 1],
    ]) {
      const cache = new KvCache(model.config);
      let logits: Float32Array = new Float32Array();
      let at = 0;
      for (const size of sizes) {
        logits = await step.run(ids.slice(at, at + size), cache);
        at += size;
      }
      logits.forEach((v, i) => expect(Math.abs(v - whole[i])).toBeLessThan(1e-4));
    }
    const cache = new KvCache(model.config);
    let logits: Float32Array = new Float32Array();
    for (const id of ids) logits = await step.run([id], cache);
    logits.forEach((v, i) => expect(Math.abs(v - whole[i])).toBeLessThan(1e-4));
    await step.close();
  });

  it('computes with a merged adapter what it does with the adapter apart', async () => {
    const adapter = await loadAdapterFolder(`${fixture}/adapter`, model);
    const logits = async (merged: boolean) => {
      const step = await DecodeStep.create(runtime, model, adapter, { merged });
      const out = await step.run(ids.slice(0, 9), new KvCache(model.config));
      await step.close();
      return out;
    };
    const [apart, merged] = [await logits(false), await logits(true)];
    const norm = Math.sqrt(apart.reduce((s, v) => s + v * v, 0));
    const off = Math.sqrt(apart.reduce((s, v, i) => s + (v - merged[i]) ** 2, 0));
    expect(off / norm).toBeLessThan(1e-5);
  });

  it('stops at the limit and at the end token', async () => {
    const step = await DecodeStep.create(runtime, model, undefined);
    const run = async (eos: number[]) => {
      const out: number[] = [];
      const gen = generateTokens(
        step,
        model.config,
        [5, 6],
        parseGenerateOptions('o', { maxNewTokens: 4 }),
        eos,
      );
      for (;;) {
        const next = await gen.next();
        if (next.done) return { out, reason: next.value };
        out.push(next.value);
      }
    };
    const free = await run([]);
    expect(free).toMatchObject({ reason: 'length' });
    expect(free.out).toHaveLength(4);
    expect(await run([free.out[2]])).toEqual({
      out: free.out.slice(0, free.out.indexOf(free.out[2])),
      reason: 'eos',
    });
    await step.close();
  });
});
