import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { UserError } from '../base/errors.js';
import { Rng } from '../base/rng.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { type Adapter, copyOf } from '../methods/adapter.js';
import { loadModel } from './loadModel.js';
import type { Model } from './model.js';

const PROMPT = 'It rains in Oslo, and';
const data = [{ text: 'It rains in Oslo, and it will rain tomorrow too.' }, { text: 'The sun is out.' }];
const all = { targetModules: 'all-linear' } as const;
const long = { maxNewTokens: 12 };
const schooling = { data, lossOn: 'all', maxSteps: 2, learningRate: 0.02 } as const;

/** An adapter that says something else than the base: B random too. */
function disturb(adapter: Adapter, seed: number): void {
  for (const [name, t] of adapter.values) {
    const rng = new Rng(seed, name);
    if (name.endsWith('lora_B')) t.data.set(t.data.map(() => rng.normal() * 0.2));
  }
}

function restore(adapter: Adapter, values: Adapter['values']): void {
  for (const [name, t] of values) adapter.values.get(name)!.data.set(t.data);
}

async function drain<T>(steps: AsyncIterable<T>): Promise<T[]> {
  const got: T[] = [];
  for await (const step of steps) got.push(step);
  return got;
}

const textOf = async (pieces: AsyncIterable<string>) => (await drain(pieces)).join('');

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item, i) =>
    permutations([...items.slice(0, i), ...items.slice(i + 1)]).map((rest) => [item, ...rest]),
  );
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-life-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('a call computes with what was active when it was called', () => {
  let model: Model;
  const texts: Record<string, string> = {};
  const values: Record<string, Adapter['values']> = {};
  const see = () => model.generate(PROMPT, long);

  /** The model as it was at first. */
  const reset = async () => {
    for (const name of model.adapterNames) model.deleteAdapter(name);
    // b is of the shape of a, c of another.
    for (const [name, r] of [
      ['c', 4],
      ['b', 2],
      ['a', 2],
    ] as const) {
      const adapter = await model.addLora({ r, loraAlpha: 8, ...all }, { name });
      disturb(adapter, name.charCodeAt(0));
      values[name] = copyOf(adapter).values;
    }
  };
  const become = (name: string) => (name === 'base' ? model.disableAdapters() : model.setAdapter(name));

  beforeAll(async () => {
    model = await loadModel('demo', { threads: 1 });
    texts.base = await see();
    await reset();
    for (const name of ['a', 'b', 'c']) {
      become(name);
      texts[name] = await see();
      await drain(model.train(schooling));
      texts[`${name} trained`] = await see();
    }
    await reset();
    expect(new Set(Object.values(texts)).size).toBe(7);
  });
  afterEach(() => vi.restoreAllMocks());
  afterAll(() => model.close());

  it('whatever is chosen between calls that are under way at once', async () => {
    const load = vi.spyOn(NodeRuntime.prototype, 'load');
    for (const names of [
      ['a', 'b', 'a', 'b'],
      ['c', 'a', 'base', 'c', 'b', 'base', 'a'],
    ]) {
      const texted = names.map((name) => {
        become(name);
        return see();
      });
      expect(await Promise.all(texted)).toEqual(names.map((name) => texts[name]));
    }
    // One graph for a and b, one for c, one for the base; those that ended in between are loaded again at most once.
    expect(load.mock.calls.length).toBeLessThanOrEqual(5);
  });

  it('and compiles nothing for adapters of one shape, also while streams are open', async () => {
    become('a');
    const first = model.stream(PROMPT, long);
    const begun = (await first.next()).value as string;
    const load = vi.spyOn(NodeRuntime.prototype, 'load');
    for (const name of ['b', 'a', 'b']) {
      become(name);
      expect(await see()).toBe(texts[name]);
    }
    expect(begun + (await textOf(first))).toBe(texts.a);
    expect(load).not.toHaveBeenCalled();
  });

  const changes = {
    set: async () => model.setAdapter('b'),
    'set one of another shape': async () => model.setAdapter('c'),
    train: () => drain(model.train(schooling)),
    merge: async () => model.merge(),
    delete: async () => model.deleteAdapter(model.activeAdapters[0]),
    disable: async () => model.disableAdapters(),
    add: () => model.addLora({ r: 2 }, { name: 'new' }),
    'change of values by hand': async () => disturb(model.adapter!, 99),
  };

  it.each(Object.entries(changes))('%s: before the first piece, and in the middle', async (_, change) => {
    await reset();
    become('a');
    const [unread, begun] = [model.stream(PROMPT, long), model.stream(PROMPT, long)];
    const piece = (await begun.next()).value as string;
    const evaluated = model.evaluate(data, { lossOn: 'all' });
    await change();
    expect(await textOf(unread)).toBe(texts.a);
    expect(piece + (await textOf(begun))).toBe(texts.a);
    expect(Number.isFinite((await evaluated).loss)).toBe(true);
  });

  it('in every order of set, train, merge and delete', async () => {
    for (const [i, order] of permutations(['set', 'train', 'merge', 'delete'] as const).entries()) {
      await reset();
      become('a');
      let [name, trained] = ['a', false];
      const expected: string[] = [];
      const got: (() => Promise<string>)[] = [];
      const look = () => {
        expected.push(texts[trained ? `${name} trained` : name]);
        // Some are read from now on, some only in the end.
        const [text, unread] = (expected.length + i) % 2 ? [see()] : [undefined, model.stream(PROMPT, long)];
        got.push(() => text ?? textOf(unread!));
      };
      look();
      for (const change of order) {
        // Nothing is active behind a deletion: then there is nothing to train or to merge.
        if (name === 'base' && change !== 'set') continue;
        await changes[change]();
        if (change === 'set') [name, trained] = ['b', false];
        if (change === 'train') trained = true;
        if (change === 'delete') [name, trained] = ['base', false];
        look();
      }
      expect(await Promise.all(got.map((read) => read())), String(order)).toEqual(expected);
    }
  });

  it('in the middle of a step of training: with the values from before it', async () => {
    await reset();
    become('a');
    const steps = model.train(schooling);
    await steps.next();
    // The step is under way, and has borrowed the values.
    const step = steps.next();
    while (!(model as unknown as { runtime: NodeRuntime }).runtime.lending) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const [text, saved] = [see(), model.saveAdapter(join(folder, 'before'))];
    expect((await step).value).toMatchObject({ kind: 'step', step: 1 });
    expect(await text).toBe(texts.a);
    await saved;
    await drain(steps);
    expect(await see()).toBe(texts['a trained']);
    await model.loadAdapter(join(folder, 'before'), { name: 'before' });
    expect(await see()).toBe(texts.a);
  });

  it('lets the loop of a training generate and save', async () => {
    await reset();
    become('a');
    for await (const event of model.train(schooling)) {
      if (event.kind === 'start') expect(await see()).toBe(texts.a);
      if (event.kind !== 'end') continue;
      expect(await see()).toBe(texts['a trained']);
      await model.saveAdapter(join(folder, 'in-the-loop'));
    }
  });

  it('and keeps no decoder that nobody uses', async () => {
    await reset();
    const generator = (model as unknown as { generator: { loaded: unknown[] } }).generator;
    const names = ['a', 'c', 'base', 'a'];
    await Promise.all(
      names.map((name) => {
        become(name);
        return see();
      }),
    );
    expect(generator.loaded).toHaveLength(1);
    become('c');
    const left = model.stream(PROMPT, long);
    await left.next();
    become('b');
    await see();
    expect(generator.loaded).toHaveLength(2);
    await left.return({ reason: 'aborted', promptTokens: 0, tokens: 0 });
    expect(generator.loaded).toHaveLength(1);
  });

  it('also when the base is replaced meanwhile', async () => {
    await reset();
    become('a');
    const open = [model.stream(PROMPT, long), model.stream(PROMPT, long)];
    await open[0].next();
    const [merged, text] = [model.mergeAndUnload({ dtype: 'float32' }), see()];
    await merged;
    expect(await text).toBe(texts.a);
    expect(model.adapterNames).toEqual([]);
    expect(await textOf(open[1])).toBe(texts.a);
    expect(texts.a.endsWith(await textOf(open[0]))).toBe(true);
    expect(await see()).toBe(texts.a);
  });
});

describe('an aborted signal', () => {
  it('gives nothing', async () => {
    const model = await loadModel('demo', { threads: 1 });
    await model.addLora({ r: 2 });
    const signal = AbortSignal.abort(new Error('enough'));
    const load = vi.spyOn(NodeRuntime.prototype, 'load');
    const pieces = model.stream(PROMPT, { signal });
    expect(await pieces.next()).toMatchObject({ done: true, value: { reason: 'aborted', tokens: 0 } });
    expect(await model.generate(PROMPT, { signal })).toBe('');
    await expect(model.train({ data, maxSteps: 2, signal }).next()).rejects.toThrow('enough');
    await expect(model.findLearningRate({ data, signal }).next()).rejects.toThrow('enough');
    await expect(model.evaluate(data, { signal })).rejects.toThrow('enough');
    expect(load).not.toHaveBeenCalled();
    // One that comes while the prompt is read.
    const late = new AbortController();
    const text = model.generate(PROMPT, { signal: late.signal });
    late.abort();
    expect(await text).toBe('');
    await model.close();
    vi.restoreAllMocks();
  });
});

/** Calls that take a while, by name. */
const calls: Record<string, (model: Model, at: string) => Promise<unknown>> = {
  generate: (model) => model.generate(PROMPT, long),
  stream: (model) => textOf(model.stream(PROMPT, long)),
  evaluate: async (model) => (await model.evaluate(data, { lossOn: 'all' })).loss,
  saveAdapter: (model, at) => model.saveAdapter(at),
  saveMerged: (model, at) => model.saveMerged(at),
  exportOnnx: async (model, at) => (await model.exportOnnx(at, { dtype: ['q8'] })).files,
  train: async (model) => (await drain(model.train(schooling))).at(-1)!.kind,
  findLearningRate: async (model) =>
    (await drain(model.findLearningRate({ ...schooling, lrSteps: 20 }))).at(-1)!.kind,
  planRanks: async (model) =>
    (await model.planRanks('lora', { r: 2 }, { ...schooling, rankBatches: 1 })).choices.length > 0,
  addLora: async (model) => (await model.addLora({ r: 2 }, { name: 'new' })).method.name,
  loadAdapter: async (model) =>
    (await model.loadAdapter(join(folder, 'pairs'), { name: 'read' })).method.name,
};

describe('every pair of calls at once', () => {
  let model: Model;
  let adapter: Adapter;
  let values: Adapter['values'];
  const alone: Record<string, unknown> = {};
  let saves = 0;
  const call = (name: string) => calls[name](model, join(folder, `saved-${++saves}`));
  const reset = () => {
    restore(adapter, values);
    for (const name of model.adapterNames) if (name !== 'default') model.deleteAdapter(name);
    model.setAdapter('default');
  };

  beforeAll(async () => {
    model = await loadModel('demo', { threads: 1 });
    adapter = await model.addLora({ r: 2, loraAlpha: 8, ...all });
    disturb(adapter, 1);
    values = copyOf(adapter).values;
    await model.saveAdapter(join(folder, 'pairs'));
    for (const name of Object.keys(calls)) {
      alone[name] = await call(name);
      reset();
    }
  });
  afterAll(() => model.close());

  it.each(Object.keys(calls))('%s and each other', async (first) => {
    for (const second of Object.keys(calls)) {
      const done = await Promise.allSettled([call(first), call(second)]);
      for (const [i, name] of [first, second].entries()) {
        const result = done[i];
        const what = `${name} of ${first} and ${second}`;
        if (i === 1 && first === 'train' && second === 'train') {
          expect(result, what).toMatchObject({ reason: expect.any(UserError) });
          expect(String((result as PromiseRejectedResult).reason)).toContain('being trained already');
        } else expect(result, what).toEqual({ status: 'fulfilled', value: alone[name] });
      }
      for (const [name, t] of adapter.values) expect(t.data.every(Number.isFinite), name).toBe(true);
      reset();
    }
  });

  it('two trainings of two adapters learn what each learns alone', async () => {
    const second = await model.addLora({ r: 2, loraAlpha: 8, ...all }, { name: 'second' });
    restore(second, values);
    model.setAdapter('default');
    const one = drain(model.train(schooling));
    model.setAdapter('second');
    await Promise.all([one, drain(model.train(schooling))]);
    for (const [name, t] of second.values) expect([...t.data]).toEqual([...adapter.values.get(name)!.data]);
    const trained = copyOf(adapter).values;
    reset();
    await drain(model.train(schooling));
    for (const [name, t] of trained) expect([...t.data]).toEqual([...adapter.values.get(name)!.data]);
    reset();
  });

  it('refuses to combine an adapter in the middle of its step', async () => {
    await model.addLora({ r: 2, loraAlpha: 8, ...all }, { name: 'second' });
    model.setAdapter('default');
    const steps = model.train(schooling);
    await steps.next();
    const step = steps.next();
    while (!(model as unknown as { runtime: NodeRuntime }).runtime.lending) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(() => model.setAdapter(['default', 'second'])).toThrow('a step of training is under way');
    await step;
    model.setAdapter(['default', 'second']);
    await drain(steps);
    reset();
  });
});

describe('close', () => {
  const opened = async () => {
    const model = await loadModel('demo', { threads: 1 });
    await model.addLora({ r: 2, loraAlpha: 8, ...all });
    return model;
  };

  it.each(Object.keys(calls).filter((name) => name !== 'saveAdapter' && name !== 'addLora'))(
    'ends %s with a UserError, at any time of it, and then every call is refused',
    async (name) => {
      for (const ms of [0, 5, 60]) {
        const model = await opened();
        const under = calls[name](model, join(folder, `closed-${name}-${ms}`));
        const caught = under.then(
          () => undefined,
          (error: unknown) => error,
        );
        await new Promise((resolve) => (ms === 0 ? resolve(0) : setTimeout(resolve, ms)));
        const closing = [model.close(), model.close()];
        const error = await caught;
        // A quick one may have ended before.
        if (error !== undefined || ms === 0) {
          expect(error).toBeInstanceOf(UserError);
          expect(String(error)).toContain('the model was closed while this was under way');
        }
        await Promise.all(closing);
        for (const [other, again] of Object.entries(calls)) {
          await expect(again(model, folder), other).rejects.toThrow('the model is closed: load it again');
        }
        for (const sync of [
          () => model.setAdapter('default'),
          () => model.merge(),
          () => model.unmerge(),
          () => model.deleteAdapter('default'),
          () => model.disableAdapters(),
          () => model.enableAdapters(),
        ]) {
          expect(sync).toThrow('the model is closed: load it again');
        }
      }
    },
  );

  it('ends streams and trainings that wait for their reader', async () => {
    const model = await opened();
    const [pieces, steps] = [model.stream(PROMPT, long), model.train({ ...schooling, maxSteps: 50 })];
    await pieces.next();
    await steps.next();
    await model.close();
    await expect(pieces.next()).rejects.toThrow(UserError);
    await expect(steps.next()).rejects.toThrow(UserError);
    expect((await steps.next()).done).toBe(true);
  });

  it('does not wait for rows that never come', async () => {
    const model = await opened();
    async function* never() {
      yield data[0];
      await new Promise(() => {});
    }
    const evaluated = model.evaluate(never(), { lossOn: 'all' });
    const refused = expect(evaluated).rejects.toThrow('the model was closed');
    await new Promise((resolve) => setTimeout(resolve, 20));
    await model.close();
    await refused;
  });
});
