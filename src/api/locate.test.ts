import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openModel } from '../models/base.js';
import { loadModel } from './loadModel.js';

const POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n';
const fixture = (path: string) =>
  fileURLToPath(new URL(`../../test/golden/fixtures/${path}`, import.meta.url));

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-locate-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('what is taken for a model and is none', () => {
  it('an adapter is told apart, with the model that it names', async () => {
    await expect(loadModel(fixture('llama2/adapter'))).rejects.toThrow(
      `${fixture('llama2/adapter')} is an adapter and not a model: name the model that it is for (fixtures/llama2), and it with --adapter`,
    );
  });

  it.each([
    ['config.json', 'config.json'],
    ['model.safetensors', 'model.safetensors'],
  ])('a git-lfs pointer for %s', async (name, file) => {
    const folder = join(dir, name);
    await mkdir(folder);
    await writeFile(join(folder, 'config.json'), '{"model_type": "llama"}');
    await writeFile(join(folder, file), POINTER);
    await expect(openModel(folder)).rejects.toThrow(
      `${join(folder, file)} is a pointer of git-lfs and not the file itself; fetch it with: git lfs pull`,
    );
  });

  it('a git-lfs pointer for a GGUF file', async () => {
    const path = join(dir, 'model.gguf');
    await writeFile(path, POINTER);
    await expect(loadModel(path)).rejects.toThrow(`${path} is a pointer of git-lfs`);
  });

  it('a folder of pickles, with how to convert them', async () => {
    const folder = join(dir, 'pickles');
    await mkdir(folder);
    await writeFile(join(folder, 'config.json'), '{"model_type": "llama"}');
    await writeFile(join(folder, 'pytorch_model.bin'), 'PK');
    await expect(openModel(folder)).rejects.toThrow(
      `M.from_pretrained('${folder}').save_pretrained('${folder}')`,
    );
  });

  it('a list, a config.json of gigabytes', async () => {
    const folder = join(dir, 'list');
    await mkdir(folder);
    const config = join(folder, 'config.json');
    await writeFile(config, '[{"model_type": "llama"}]');
    await expect(openModel(folder)).rejects.toThrow(`${config}: expected object, received array`);
    await truncate(config, 5e9);
    await expect(openModel(folder)).rejects.toThrow(
      `${config} has 5000000000 bytes, more than a JSON file may have`,
    );
  });
});

it.each([0, 1.5, 99_999_999_999])('%d threads are refused', async (threads) => {
  await expect(loadModel('demo', { threads })).rejects.toThrow(
    /^loadModel options: key "threads": expected a (whole number|number of at (least 1|most 1024))$/,
  );
});
