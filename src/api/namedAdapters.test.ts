import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Rng } from '../base/rng.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import type { Adapter } from '../methods/adapter.js';
import { loadModel } from './loadModel.js';
import type { Model } from './model.js';

const PROMPT = 'It rains in Oslo, and';
const data = [{ text: 'It rains in Oslo, and it will rain tomorrow too.' }];
const all = { targetModules: 'all-linear' } as const;

/** An adapter that says something else than the base: B random too. */
function disturb(adapter: Adapter, seed: number): void {
  for (const [name, t] of adapter.values) {
    const rng = new Rng(seed, name);
    if (name.endsWith('lora_B')) t.data.set(t.data.map(() => rng.normal() * 0.2));
  }
}

describe('several adapters on one base', () => {
  let model: Model;
  let folder: string;
  const seen = () => model.generate(PROMPT, { maxNewTokens: 12 });
  const loss = async () => (await model.evaluate(data, { lossOn: 'all' })).loss;
  const texts: Record<string, string> = {};
  const losses: Record<string, number> = {};

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lowrank-named-'));
    model = await loadModel('demo', { threads: 1 });
    texts.base = await seen();
    losses.base = await loss();
    for (const [seed, name] of ['a', 'b'].entries()) {
      disturb(await model.addLora({ r: 2, loraAlpha: 8, ...all }, { name }), seed + 1);
      texts[name] = await seen();
      losses[name] = await loss();
      await model.saveAdapter(join(folder, name));
    }
  });
  afterEach(() => vi.restoreAllMocks());
  afterAll(async () => {
    await model.close();
    await rm(folder, { recursive: true });
  });

  it('gives what each gives alone, and the base without them, switched without compiling anew', async () => {
    expect(new Set(Object.values(texts)).size).toBe(3);
    model.setAdapter('a');
    expect(await seen()).toBe(texts.a);
    const load = vi.spyOn(NodeRuntime.prototype, 'load');
    for (const name of ['b', 'a', 'b']) {
      model.setAdapter(name);
      expect(await seen()).toBe(texts[name]);
    }
    // The file names the targets one by one, and its graph is the same.
    await model.loadAdapter(join(folder, 'a'), { name: 'read' });
    expect(await seen()).toBe(texts.a);
    expect(load).not.toHaveBeenCalled();
    model.deleteAdapter('read');
    for (const name of ['a', 'b']) {
      model.setAdapter(name);
      expect(await loss()).toBe(losses[name]);
    }
    model.disableAdapters();
    expect(model.adapter).toBeUndefined();
    expect([await seen(), await loss()]).toEqual([texts.base, losses.base]);
    model.enableAdapters();
    expect([await seen(), await loss()]).toEqual([texts.b, losses.b]);
    expect(model.adapterNames).toEqual(['a', 'b']);
    expect(model.activeAdapters).toEqual(['b']);
  });

  it('compiles anew where the scale or the rank is another', async () => {
    model.setAdapter('a');
    await seen();
    disturb(await model.addLora({ r: 2, loraAlpha: 64, ...all }, { name: 'louder' }), 1);
    expect(await seen()).not.toBe(texts.a);
    model.setAdapter('a');
    expect(await seen()).toBe(texts.a);
    model.deleteAdapter('louder');
  });

  it('adds up what several change', async () => {
    model.setAdapter(['a', 'b']);
    expect(model.activeAdapters).toEqual(['a', 'b']);
    const sum = await loss();
    // The same as b on a model that a is merged into.
    const merged = await loadModel('demo', { threads: 1 });
    await merged.loadAdapter(join(folder, 'a'));
    await merged.mergeAndUnload({ dtype: 'float32' });
    await merged.loadAdapter(join(folder, 'b'));
    expect((await merged.evaluate(data, { lossOn: 'all' })).loss).toBeCloseTo(sum, 4);
    await merged.close();
    expect(Math.abs(sum - losses.a)).toBeGreaterThan(1e-3);
    expect(Math.abs(sum - losses.b)).toBeGreaterThan(1e-3);
  });

  it('says what stands in the way', async () => {
    expect(() => model.setAdapter('third')).toThrow('there is no adapter "third"; there are a, b');
    expect(() => model.deleteAdapter('c')).toThrow('there is no adapter "c"');
    expect(() => model.setAdapter(['a', 'a'])).toThrow('adapter "a" is named twice');
    expect(() => model.setAdapter([])).toThrow('which adapter?');
    model.setAdapter(['a', 'b']);
    await expect(model.saveAdapter(join(folder, 'x'))).rejects.toThrow(
      'saving takes one adapter, and a, b are',
    );
    await expect(model.train({ data, maxSteps: 1 }).next()).rejects.toThrow('training takes one adapter');
    model.setAdapter('a');
    model.disableAdapters();
    await expect(model.train({ data, maxSteps: 1 }).next()).rejects.toThrow('the adapters are disabled');
    await model.addMethod('dora', { r: 2 }, { name: 'd' });
    expect(() => model.setAdapter(['a', 'd'])).toThrow('adapter "d" is of method dora');
    expect(model.activeAdapters).toEqual(['d']);
    model.deleteAdapter('d');
    expect(model.activeAdapters).toEqual([]);
    await expect(model.saveAdapter(join(folder, 'x'))).rejects.toThrow(
      'no adapter is active: choose one of a, b',
    );
    expect(await seen()).toBe(texts.base);
  });

  it('combines by weights', async () => {
    model.setAdapter('a');
    const half = model.addWeightedAdapter(['a', 'b'], { weights: [1, 0], combination: 'svd', name: 'mix' });
    expect(half.values.get('model.layers.0.self_attn.q_proj.lora_A')!.dims[0]).toBe(2);
    expect(await loss()).toBeCloseTo(losses.a, 5);
    expect(() => model.addWeightedAdapter(['a', 'b'], { weights: [1] })).toThrow(
      'there are 2 adapters and 1 weight',
    );
    model.deleteAdapter('mix');
  });

  it('becomes a plain model by mergeAndUnload', async () => {
    const plain = await loadModel('demo', { threads: 1 });
    await plain.loadAdapter(join(folder, 'a'), { name: 'a' });
    await plain.mergeAndUnload({ dtype: 'float32' });
    expect([plain.adapterNames, plain.adapter]).toEqual([[], undefined]);
    expect(await plain.generate(PROMPT, { maxNewTokens: 12 })).toBe(texts.a);
    expect((await plain.evaluate(data, { lossOn: 'all' })).loss).toBeCloseTo(losses.a, 4);
    await plain.saveMerged(join(folder, 'merged'));
    const temporary = plain.base.folder;
    await plain.close();
    await expect(readdir(temporary)).rejects.toThrow('ENOENT');
    const again = await loadModel(join(folder, 'merged'), { threads: 1 });
    expect(await again.generate(PROMPT, { maxNewTokens: 12 })).toBe(texts.a);
    await again.addLora({ r: 2 });
    await again.mergeAndUnload({ folder: join(folder, 'again') });
    await again.close();
    expect(await readdir(join(folder, 'again'))).toContain('config.json');
  });
});
