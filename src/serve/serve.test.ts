import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { Rng } from '../base/rng.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { loadAdapterFolder } from '../methods/files.js';
import { type BaseModel, openModel } from '../models/base.js';
import { KvCache } from './cache.js';
import { DecodeStep } from './decode.js';
import { type FinishReason, generateTokens, parseGenerateOptions, textOf } from './generate.js';
import { argmax, processorOf } from './processors.js';
import { sample } from './sample.js';

describe('sampling', () => {
  const logits = Float32Array.from([0, 2, 1, -1, 1.5]);
  const said = { ids: [], fresh: 0, eos: [] };
  const draws = (given: object, n = 4000) => {
    const rng = new Rng(1, 's');
    const scores = logits.slice();
    processorOf(parseGenerateOptions('o', { temperature: 1, ...given }))(scores, said);
    const counts = new Array(5).fill(0);
    for (let i = 0; i < n; i++) counts[sample(scores, rng)]++;
    return counts.map((c) => c / n);
  };
  it('takes the first of equals where it is greedy', () => {
    expect(argmax(Float32Array.of(1, 3, 3))).toBe(1);
  });
  it('follows the distribution', () => {
    const e = [...logits].map(Math.exp);
    const total = e.reduce((a, b) => a + b);
    draws({}).forEach((p, i) => expect(Math.abs(p - e[i] / total)).toBeLessThan(0.03));
  });
  it('draws from what the processors leave', () => {
    const k = draws({ topK: 2 });
    expect(k[1] + k[4]).toBe(1);
    // Probabilities 0.46, 0.28, 0.17, …: two tokens reach 0.7.
    const p = draws({ topP: 0.7 });
    expect(p[1] + p[4]).toBe(1);
    expect(p[4]).toBeGreaterThan(0.2);
    expect(draws({ topP: 0.01 })[1]).toBe(1);
  });
  it('keeps so many of equal tokens as the probability asks for', () => {
    const scores = Float32Array.of(1, 1, 1, 1, -9);
    processorOf(parseGenerateOptions('o', { topP: 0.6 }))(scores, said);
    expect([...scores].filter(Number.isFinite)).toHaveLength(3);
  });
});

describe('what options leave open', () => {
  const file = { do_sample: true, temperature: 0.7, top_k: 20, max_length: 30 };
  it.each([
    ['nothing said: greedy', {}, {}, { temperature: 0, maxNewTokens: 256, topK: 50 }],
    ['the model samples', {}, file, { temperature: 0.7, topK: 20, maxNewTokens: 26 }],
    ['temperature 0 is greedy', { temperature: 0 }, file, { temperature: 0 }],
    ['doSample false is greedy', { doSample: false }, file, { temperature: 0 }],
    ['doSample, nothing else', { doSample: true }, {}, { temperature: 1, topK: 50 }],
    ['top-p is of sampling', { topP: 0.9 }, {}, { temperature: 1, topP: 0.9 }],
    [
      'options win',
      { temperature: 0.2, topK: 0, maxNewTokens: 5 },
      file,
      { temperature: 0.2, topK: 0, maxNewTokens: 5 },
    ],
  ] as const)('%s', (_, options, model, expected) => {
    expect(parseGenerateOptions('o', options, model, 4)).toMatchObject(expected);
  });

  it('refuses a prompt that the model has no length left for', () => {
    const { message } = new UserError(
      "the prompt has 30 tokens and the model's generation_config.json a max_length of 30: give maxNewTokens",
    );
    expect(() => parseGenerateOptions('o', {}, file, 30)).toThrow(message);
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

  it('refuses options that leave no token', async () => {
    const step = await DecodeStep.create(runtime, model, undefined);
    const suppressTokens = Array.from({ length: model.config.vocabSize }, (_, id) => id);
    const options = parseGenerateOptions('o', { suppressTokens });
    const tokens = generateTokens(step, model.config, [5, 6], options, []);
    await expect(tokens.next()).rejects.toThrow('the generation options leave no token to go on with');
    await step.close();
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
