import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { readGguf } from '../formats/gguf/reader.js';
import { openModel } from '../models/base.js';
import { convert } from './convert.js';
import { loadModel } from './loadModel.js';
import { embeddedModel } from './locate.js';
import { mergeInto } from './output.js';

const fixture = (name: string) =>
  fileURLToPath(new URL(`../formats/gguf/fixtures/${name}.gguf`, import.meta.url));
const typesOf = async (path: string) =>
  new Set([...(await readGguf(path)).tensors.values()].map(({ type }) => type));

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-merged-'));
  vi.stubEnv('LOWRANK_CACHE', join(dir, 'cache'));
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true });
});

describe('merging a GGUF file', () => {
  it.each([
    ['llama-kquants', 'folder', 'float16'],
    ['llama-kquants', 'again.gguf', 'q8_0'],
    ['llama-tekken', 'halves', 'float16'],
    ['llama-spm', 'own.gguf', 'q4_0'],
  ])('%s into %s gives %s, and tells so', async (name, output, dtype) => {
    const path = join(dir, output);
    const notices: string[] = [];
    const saved = await mergeInto(fixture(name), [], path, { onNotice: (message) => notices.push(message) });
    expect(saved).toEqual({ format: output.endsWith('.gguf') ? 'gguf' : 'hf', dtype });
    expect(notices[0]).toMatch(
      new RegExp(`holds its weights mostly in .*: the merged ones are ${dtype}, unless`),
    );
    if (saved.format === 'gguf') expect(await typesOf(path)).toContain({ q8_0: 'Q8_0', q4_0: 'Q4_0' }[dtype]);
    else {
      const { tensors } = (await openModel(path)).checkpoint;
      expect(new Set([...tensors.values()].map((t) => t.dtype))).toEqual(new Set(['F16']));
    }
  });

  it('gives what is asked for', async () => {
    const path = join(dir, 'asked');
    await mergeInto(fixture('llama-kquants'), [], path, { dtype: 'bfloat16' });
    expect((await openModel(path)).checkpoint.tensors.get('model.norm.weight')!.dtype).toBe('BF16');
  });
});

describe('a folder as GGUF', () => {
  it('has 16 bits by default, by the name of the output or the format', async () => {
    const path = join(dir, 'demo.gguf');
    expect(await convert(embeddedModel, path, { to: 'gguf' })).toEqual({
      what: 'model',
      format: 'gguf',
      dtype: 'float16',
    });
    expect(await typesOf(path)).toEqual(new Set(['F32', 'F16']));
    const before = await readFile(path);
    await expect(convert(embeddedModel, path, { to: 'gguf' })).rejects.toThrow('exists already');
    const model = await loadModel('demo');
    await expect(model.saveMerged(path, { dtype: 'q4_0' })).rejects.toThrow('exists already');
    expect((await readFile(path)).equals(before)).toBe(true);
    const named = join(dir, 'no-extension');
    await model.saveMerged(named, { format: 'gguf', dtype: 'q4_0' });
    expect(await typesOf(named)).toEqual(new Set(['F32', 'Q8_0', 'Q4_0']));
    await model.close();
  });

  it('generates what it generates as a folder', async () => {
    const path = join(dir, 'generates.gguf');
    await convert(embeddedModel, path, { to: 'gguf', dtype: 'float32' });
    const [demo, again] = [await loadModel('demo'), await loadModel(path)];
    const prompt = 'Once upon a time';
    const options = { maxNewTokens: 12 };
    expect(await again.generate(prompt, options)).toBe(await demo.generate(prompt, options));
    await demo.close();
    await again.close();
  });

  it('takes element types of GGUF in GGUF files of models only', async () => {
    const model = await loadModel('demo');
    await expect(model.saveMerged(join(dir, 'no'), { dtype: 'q8_0' })).rejects.toThrow(
      'q8_0 is an element type of GGUF files: write one (format gguf), or choose another',
    );
    await model.close();
    await expect(convert(fixture('llama-spm'), join(dir, 'no'), { dtype: 'q4_0' })).rejects.toThrow(
      'q4_0 is no element type of a model folder, expected float32, float16 or bfloat16',
    );
    expect((await readdir(dir)).includes('no')).toBe(false);
  });
});
