import { cpSync, mkdtempSync, readdirSync, rmSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { WorkProgress } from '../base/work.js';
import { openModel } from '../models/base.js';
import { formatOf } from '../models/quantized.js';
import { embeddedModel, resolveModelFolder } from './locate.js';
import {
  type BaseOptions,
  openBase,
  otherBase,
  quantizedFolder,
  recipeOf,
  resolveBase,
} from './quantizedBase.js';

const fixture = fileURLToPath(new URL('../../test/golden/fixtures/smollm2', import.meta.url));
const ggufs = fileURLToPath(new URL('../formats/gguf/fixtures', import.meta.url));
const folderOf = async (path: string, options?: BaseOptions) => (await resolveBase(path, options)).folder;
let scratch: string;
let model: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'lowrank-base-'));
  vi.stubEnv('LOWRANK_CACHE', join(scratch, 'cache'));
  model = join(scratch, 'model');
  cpSync(fixture, model, { recursive: true });
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(scratch, { recursive: true });
});

describe('a quantized copy of a base', () => {
  it('is made once, told of, and opens with its configuration', async () => {
    const notices: string[] = [];
    const onNotice = (line: string) => notices.push(line);
    const first = await folderOf(model, { quantize: 'nf4', onNotice });
    expect(await folderOf(model, { quantize: 'nf4', onNotice })).toBe(first);
    expect(notices).toEqual([`quantizing ${model} to nf4 once into ${first}`]);
    expect(formatOf(await openModel(first))).toBe('nf4');
    expect(formatOf(await openModel(model))).toBeUndefined();
    expect(await folderOf(model)).toBe(model);
  });

  it('is another for another format and for changed weights', async () => {
    const first = await folderOf(model, { quantize: 'int4' });
    expect(await folderOf(model, { quantize: 'int8' })).not.toBe(first);
    utimesSync(join(model, 'model.safetensors'), 1, 1);
    expect(await folderOf(model, { quantize: 'int4' })).not.toBe(first);
    expect(readdirSync(join(scratch, 'cache'))).toHaveLength(3);
  });

  it('can be named as a model, and is not quantized again', async () => {
    const copy = await folderOf(model, { quantize: 'int8' });
    expect(await folderOf(copy, { quantize: 'int8' })).toBe(copy);
    expect(await folderOf(copy)).toBe(copy);
    await expect(folderOf(copy, { quantize: 'nf4' })).rejects.toThrow('holds its layers in int8 already');
  });

  it('keeps embeddings and norms as they are stored', async () => {
    const [original, quantized] = await Promise.all(
      [embeddedModel, await folderOf(embeddedModel, { quantize: 'nf4' })].map((folder) => openModel(folder)),
    );
    for (const name of ['model.embed_tokens.weight', 'model.norm.weight']) {
      expect(original.checkpoint.tensors.get(name)!.dtype).toBe('F16');
      expect(quantized.checkpoint.tensors.get(name)!.dtype).toBe('F16');
      expect(await quantized.checkpoint.read(name)).toEqual(await original.checkpoint.read(name));
    }
  });

  it('two at once make one', async () => {
    const both = await Promise.all([1, 2].map(() => folderOf(embeddedModel, { quantize: 'int4' })));
    expect(both[0]).toBe(both[1]);
    expect(readdirSync(join(scratch, 'cache'))).toHaveLength(1);
  });
});

it('matrices that files have as [in, out] keep their values to 8 bits, and their originals', async () => {
  const gpt2 = fileURLToPath(new URL('../../test/golden/fixtures/gpt2', import.meta.url));
  const quantized = await openBase(await resolveBase(gpt2, { quantize: 'int8' }));
  const exact = await openModel(gpt2);
  const name = 'transformer.h.0.mlp.c_fc.weight';
  expect(exact.transposed).toContain(name);
  const [near, values] = [await quantized.checkpoint.read(name), await exact.checkpoint.read(name)];
  const most = Math.max(...values.map(Math.abs));
  expect(Math.max(...values.map((x, i) => Math.abs(x - near[i])))).toBeLessThan(most / 100);
  expect(await quantized.original!(name)).toEqual(values);
});

it('blocks of a GGUF file that have the layout keep their values, in the order of Hugging Face', async () => {
  const file = join(ggufs, 'llama-spm.gguf'); // Q4_0
  const quantized = await openModel(await folderOf(file, { quantize: 'int4' }));
  const exact = await openModel(await resolveModelFolder(file));
  expect(quantized.quantized.size).toBe(7);
  for (const name of quantized.parameters.keys()) {
    expect(await quantized.checkpoint.read(name), name).toEqual(await exact.checkpoint.read(name));
  }
});

it.each([
  ['a folder', () => model],
  ['a GGUF file', () => join(ggufs, 'llama-spm.gguf')],
])('knows the original of its matrices: %s', async (_, at) => {
  const quantized = await openBase(await resolveBase(at(), { quantize: 'nf4' }));
  const exact = await openModel(await resolveModelFolder(at()));
  const [name] = quantized.quantized.keys();
  expect(await quantized.original!(name)).toEqual(await exact.checkpoint.read(name));
  expect(await quantized.checkpoint.read(name)).not.toEqual(await exact.checkpoint.read(name));
  expect((await openBase({ folder: quantized.folder })).original).toBeUndefined();
});

describe('a copy that LoftQ made', () => {
  const site = 'model.layers.0.mlp.down_proj';
  const loftq = { iterations: 3, ranks: { [site]: 2 } };
  const read = async (folder: string, name: string) =>
    (await openModel(folder)).checkpoint.read(`${name}.weight`);

  it('differs from the plain one in its matrices, and says how it was made', async () => {
    const told: string[] = [];
    const onProgress = (p: WorkProgress) => told.push(`${p.what}: ${p.done} of ${p.total} ${p.unit}`);
    const plain = await folderOf(model, { quantize: 'nf4' });
    const copy = await quantizedFolder(model, { format: 'nf4', loftq }, { onProgress });
    expect(await read(copy, site)).not.toEqual(await read(plain, site));
    const other = 'model.layers.1.mlp.down_proj';
    expect(await read(copy, other)).toEqual(await read(plain, other));
    expect(await recipeOf(await openModel(copy))).toEqual({ format: 'nf4', loftq });
    expect(await recipeOf(await openModel(plain))).toEqual({ format: 'nf4' });
    expect(await recipeOf(await openModel(model))).toBeUndefined();
    expect(told.at(-1)).toBe('quantizing to nf4 (LoftQ, 3 iterations): 14 of 14 matrices');
    const again = { format: 'nf4', loftq: { ...loftq, ranks: { [site]: 2 } } } as const;
    expect(await quantizedFolder(model, again)).toBe(copy);
    for (const changed of [
      { ...loftq, iterations: 2 },
      { ...loftq, ranks: { [site]: 3 } },
    ]) {
      expect(await quantizedFolder(model, { format: 'nf4', loftq: changed })).not.toBe(copy);
    }
  });

  it('is made of a GGUF file too', async () => {
    const copy = await quantizedFolder(join(ggufs, 'llama-spm.gguf'), { format: 'nf4', loftq });
    expect(await recipeOf(await openModel(copy))).toEqual({ format: 'nf4', loftq });
  });

  it.each([
    [{ lm_head: 2 }, 'LoftQ is for layers that are quantized, and lm_head is none'],
    [{ [site]: 25 }, `LoftQ: rank 25 is larger than ${site} allows: its matrix is 24 × 48`],
  ])('refuses %j', async (ranks, message) => {
    const recipe = { format: 'nf4', loftq: { iterations: 2, ranks } } as const;
    await expect(quantizedFolder(model, recipe)).rejects.toThrow(message);
    expect(readdirSync(join(scratch, 'cache'))).toEqual([]);
  });
});

it('an adapter that was trained over other weights is told of', () => {
  const nf4 = { format: 'nf4' } as const;
  const loftq = { format: 'nf4', loftq: { iterations: 5, ranks: { q: 4 } } } as const;
  expect(otherBase('a', undefined, undefined)).toBeUndefined();
  expect(otherBase('a', nf4, { format: 'nf4' })).toBeUndefined();
  expect(otherBase('a', nf4, undefined)).toBe(
    'a was trained over nf4 weights and these are not: the option quantize nf4 gives the ones it fits',
  );
  expect(otherBase('a', nf4, { format: 'int8' })).toContain('over nf4 weights and these are int8');
  expect(otherBase('a', loftq, undefined)).toContain(
    'over nf4 (LoftQ, 5 iterations) weights and these are not',
  );
  expect(otherBase('a', loftq, nf4)).toContain(
    'these are nf4: load it into a model without other adapters, opened by its original and this base',
  );
});
