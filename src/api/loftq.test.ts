import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Adapter } from '../methods/adapter.js';
import { loadModel } from './loadModel.js';
import type { Model } from './model.js';
import { mergeInto } from './output.js';

const data = [{ text: 'It rains in Oslo, and it will rain tomorrow too.' }];
const options = { r: 6, loraAlpha: 12, targetModules: ['k_proj', 'v_proj'] };

let scratch: string;
const open: Model[] = [];
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'lowrank-loftq-'));
  vi.stubEnv('LOWRANK_CACHE', join(scratch, 'cache'));
});
afterEach(async () => {
  for (const model of open.splice(0)) await model.close();
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(scratch, { recursive: true });
});

async function load(base?: 'nf4' | 'int8' | 'int4', path = 'demo'): Promise<Model> {
  const model = await loadModel(path, { quantize: base, threads: 1 });
  open.push(model);
  return model;
}

const loss = async (model: Model) => (await model.evaluate(data, { lossOn: 'all' })).loss;

/** A training step, so that an adapter is not what it began as. */
async function train(model: Model): Promise<void> {
  const job = { data, lossOn: 'all', maxSteps: 2, learningRate: 1e-3, batchSize: 1 } as const;
  for await (const _ of model.train(job));
}

/** ‖W − (Q + s·B·A)‖² and ‖W − Q‖² over the adapted matrices. */
async function distances(model: Model, adapter: Adapter) {
  let [near, far] = [0, 0];
  for (const { name, shape } of adapter.trainables.filter((t) => t.name.endsWith('.lora_A'))) {
    const site = name.slice(0, -'.lora_A'.length);
    const b = adapter.values.get(`${site}.lora_B`)!;
    const a = adapter.values.get(name)!;
    const [original, held] = await Promise.all([
      model.base.original!(`${site}.weight`),
      model.base.checkpoint.read(`${site}.weight`),
    ]);
    const [r, columns] = shape;
    for (let at = 0; at < held.length; at++) {
      const [i, j] = [Math.floor(at / columns), at % columns];
      let product = 0;
      for (let k = 0; k < r; k++) product += b.data[i * r + k] * a.data[k * columns + j];
      const lost = original[at] - held[at];
      far += lost ** 2;
      near += (lost - (options.loraAlpha / options.r) * product) ** 2;
    }
  }
  return { near, far };
}

it.each(['nf4', 'int8', 'int4'] as const)(
  'starts nearer to the original than %s, and T > 1 nearer still',
  async (base) => {
    const left: number[] = [];
    for (const loftqIter of [1, 3]) {
      const model = await load(base);
      const { near, far } = await distances(model, await model.addMethod('loftq', { ...options, loftqIter }));
      expect(near).toBeLessThan(0.97 * far);
      left.push(near);
    }
    expect(left[1]).toBeLessThan(left[0]);
  },
);

describe.each([1, 3])('of %i iterations', (loftqIter) => {
  const adapter = () => join(scratch, `adapter-${loftqIter}`);
  let trained: number;
  beforeAll(async () => {
    const model = await load('nf4');
    await model.addMethod('loftq', { ...options, loftqIter });
    await train(model);
    trained = await loss(model);
    await model.saveAdapter(adapter());
  });

  it('is loaded over the base that it was trained over, which is made again where the cache was emptied', async () => {
    rmSync(join(scratch, 'cache'), { recursive: true });
    const model = await load('nf4');
    const notices: string[] = [];
    await model.loadAdapter(adapter(), { onNotice: (line) => notices.push(line) });
    expect(await loss(model)).toBe(trained);
    expect(notices).toHaveLength(loftqIter === 1 ? 0 : 1);
    await model.loadAdapter(adapter(), { name: 'again', onNotice: (line) => notices.push(line) });
    expect(await loss(model)).toBe(trained);
    expect(notices).toHaveLength(loftqIter === 1 ? 0 : 1);
  });

  it('merges into it, on the way and on disk', async () => {
    const folder = join(scratch, `merged-${loftqIter}`);
    await mergeInto('demo', [adapter()], folder, { quantize: 'nf4' });
    const model = await load(undefined, folder);
    expect(Math.abs((await loss(model)) / trained - 1)).toBeLessThan(1e-5);
    expect(readdirSync(folder)).not.toContain('lowrank_base.json');
  });

  it('tells of another base', async () => {
    for (const base of [undefined, 'int8'] as const) {
      const model = await load(base);
      const notices: string[] = [];
      await model.loadAdapter(adapter(), { onNotice: (line) => notices.push(line) });
      expect(notices).toEqual([expect.stringContaining('was trained over nf4')]);
    }
  });
});

it('is not put over other adapters where it needs a base of its own', async () => {
  const model = await load('nf4');
  await model.addLora();
  const own = { ...options, loftqIter: 2 };
  await expect(model.addMethod('loftq', own)).rejects.toThrow('put it on a model without other adapters');
  model.deleteAdapter('default');
  await model.addMethod('loftq', own);
  await model.addMethod('loftq', own, { name: 'again' });
  expect(model.adapterNames).toEqual(['default', 'again']);
});

it('needs a quantized base and its original, and something that quantizing took', async () => {
  const message = 'loftq starts at what quantizing took from the base: give the original as the model';
  const plain = await load();
  const { folder } = (await load('nf4')).base;
  const alone = await load('nf4', folder);
  for (const model of [plain, alone]) {
    for (const loftqIter of [1, 2]) {
      await expect(model.addMethod('loftq', { loftqIter })).rejects.toThrow(message);
    }
  }
  const q4 = fileURLToPath(new URL('../formats/gguf/fixtures/llama-spm.gguf', import.meta.url));
  const exact = await load('int4', q4);
  await expect(exact.addMethod('loftq', {})).rejects.toThrow(
    'as its original does, which leaves nothing for loftq to start at; take it out of the targets, or train lora',
  );
  const head = { targetModules: ['lm_head'] };
  await expect((await load('nf4')).addMethod('loftq', head)).rejects.toThrow(
    'the base holds lm_head as its original',
  );
  await expect((await load('nf4')).addMethod('loftq', { targetModules: ['embed_tokens'] })).rejects.toThrow(
    "loftq starts in the matrix of a linear layer, and model.embed_tokens.lora_embedding_A is an embedding's",
  );
  await expect((await load('nf4')).addMethod('loftq', { r: 257 })).rejects.toThrow(
    'r 257 is larger than model.layers.0.self_attn.q_proj allows: its matrix is 256 × 256',
  );
});
