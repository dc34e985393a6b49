import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openModel } from '../models/base.js';
import { formatOf } from '../models/quantized.js';
import { embeddedModel, resolveModelFolder } from './locate.js';
import { otherBase, resolveBase } from './quantize.js';

const fixture = fileURLToPath(new URL('../../test/golden/fixtures/smollm2', import.meta.url));
const ggufs = fileURLToPath(new URL('../formats/gguf/fixtures', import.meta.url));
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
    const first = await resolveBase(model, { base: 'nf4', onNotice });
    expect(await resolveBase(model, { base: 'nf4', onNotice })).toBe(first);
    expect(notices).toEqual([`quantizing ${model} to nf4 once into ${first}`]);
    expect(formatOf(await openModel(first))).toBe('nf4');
    expect(formatOf(await openModel(model))).toBeUndefined();
    expect(await resolveBase(model)).toBe(model);
  });

  it('is another for another format and for changed weights', async () => {
    const first = await resolveBase(model, { base: 'int4' });
    expect(await resolveBase(model, { base: 'int8' })).not.toBe(first);
    utimesSync(join(model, 'model.safetensors'), 1, 1);
    expect(await resolveBase(model, { base: 'int4' })).not.toBe(first);
    expect(readdirSync(join(scratch, 'cache'))).toHaveLength(3);
  });

  it('can be named as a model, and is not quantized again', async () => {
    const copy = await resolveBase(model, { base: 'int8' });
    expect(await resolveBase(copy, { base: 'int8' })).toBe(copy);
    expect(await resolveBase(copy)).toBe(copy);
    await expect(resolveBase(copy, { base: 'nf4' })).rejects.toThrow('holds its layers in int8 already');
  });

  it('two at once make one', async () => {
    const both = await Promise.all([1, 2].map(() => resolveBase(embeddedModel, { base: 'int4' })));
    expect(both[0]).toBe(both[1]);
    expect(readdirSync(join(scratch, 'cache'))).toHaveLength(1);
  });
});

it('blocks of a GGUF file that have the layout keep their values, in the order of Hugging Face', async () => {
  const file = join(ggufs, 'llama-spm.gguf'); // Q4_0
  const quantized = await openModel(await resolveBase(file, { base: 'int4' }));
  const exact = await openModel(await resolveModelFolder(file));
  expect(quantized.quantized.size).toBe(7);
  for (const name of quantized.parameters.keys()) {
    expect(await quantized.checkpoint.read(name), name).toEqual(await exact.checkpoint.read(name));
  }
});

it('an adapter that was trained over another format is told of', async () => {
  const folder = join(scratch, 'adapter');
  mkdirSync(folder);
  expect(await otherBase(folder, undefined)).toBeUndefined();
  writeFileSync(join(folder, 'run.json'), JSON.stringify({ options: { base: 'nf4', r: 8 } }));
  expect(await otherBase(folder, 'nf4')).toBeUndefined();
  expect(await otherBase(folder, undefined)).toContain('was trained over nf4 weights and these are not');
  expect(await otherBase(folder, 'int8')).toContain('was trained over nf4 weights and these are int8');
});
