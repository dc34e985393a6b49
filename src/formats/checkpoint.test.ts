import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { openCheckpoint, writeCheckpoint } from './checkpoint.js';
import { encodeF32 } from './float16.js';
import type { TensorEntry } from './safetensors.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-ckpt-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const entry = (name: string, ...values: number[]): TensorEntry => ({
  name,
  dtype: 'F32',
  shape: [values.length],
  data: () => encodeF32(Float32Array.from(values), 'float32'),
});
const entries = [entry('c', 1, 2), entry('a', 3), entry('b', 4, 5, 6, 7), entry('d', 8)];

async function expectWhole(folder: string) {
  const checkpoint = await openCheckpoint(folder);
  expect([...checkpoint.tensors.keys()].sort()).toEqual(['a', 'b', 'c', 'd']);
  expect([...(await checkpoint.read('b'))]).toEqual([4, 5, 6, 7]);
  expect([...(await checkpoint.read('c'))]).toEqual([1, 2]);
  return checkpoint;
}

describe('writeCheckpoint and openCheckpoint', () => {
  it('round-trip one file', async () => {
    await writeCheckpoint(dir, entries);
    expect(await readdir(dir)).toEqual(['model.safetensors']);
    const checkpoint = await expectWhole(dir);
    await expect(checkpoint.read('e')).rejects.toThrow(
      new UserError(`${dir} has no tensor "e"; the nearest is "a"`),
    );
  });

  it('round-trip shards, a too large tensor by itself', async () => {
    await writeCheckpoint(dir, entries, { maxShardBytes: 12 });
    expect((await readdir(dir)).sort()).toEqual([
      'model-00001-of-00003.safetensors',
      'model-00002-of-00003.safetensors',
      'model-00003-of-00003.safetensors',
      'model.safetensors.index.json',
    ]);
    expect(JSON.parse(await readFile(join(dir, 'model.safetensors.index.json'), 'utf8'))).toEqual({
      metadata: { total_size: 32 },
      weight_map: {
        a: 'model-00001-of-00003.safetensors',
        b: 'model-00002-of-00003.safetensors',
        c: 'model-00001-of-00003.safetensors',
        d: 'model-00003-of-00003.safetensors',
      },
    });
    await expectWhole(dir);
  });

  it('follow the links of a Hub cache to the real files', async () => {
    await writeCheckpoint(join(dir, 'snapshot'), entries, { maxShardBytes: 12 });
    await mkdir(join(dir, 'blobs'));
    for (const [i, name] of (await readdir(join(dir, 'snapshot'))).entries()) {
      await rename(join(dir, 'snapshot', name), join(dir, 'blobs', `${i}`));
      await symlink(`../blobs/${i}`, join(dir, 'snapshot', name));
    }
    const checkpoint = await expectWhole(join(dir, 'snapshot'));
    expect(checkpoint.folder).toBe(join(dir, 'snapshot'));
    expect(checkpoint.tensors.get('a')?.file).toBe(join(dir, 'blobs', '0'));
  });
});

describe('openCheckpoint refuses', () => {
  const index = 'model.safetensors.index.json';

  it('a folder that is not there or has no weights', async () => {
    await expect(openCheckpoint(join(dir, 'x'))).rejects.toThrow(
      new UserError(`there is no model folder ${dir}/x`),
    );
    await expect(openCheckpoint(dir)).rejects.toThrow(/has neither model.safetensors nor .*index.json$/);
    await writeFile(join(dir, 'pytorch_model.bin'), '');
    await expect(openCheckpoint(dir)).rejects.toThrow(/pickles are not read/);
  });

  it('a missing shard', async () => {
    await writeCheckpoint(dir, entries, { maxShardBytes: 12 });
    await rm(join(dir, 'model-00002-of-00003.safetensors'));
    await expect(openCheckpoint(dir)).rejects.toThrow(
      new UserError(`${dir} lacks the shard model-00002-of-00003.safetensors that ${index} names`),
    );
  });

  it('a tensor that its shard lacks', async () => {
    await writeCheckpoint(dir, entries, { maxShardBytes: 12 });
    const path = join(dir, index);
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('"d": "model-00003', '"d": "model-00002'));
    await expect(openCheckpoint(dir)).rejects.toThrow(
      /model-00002-of-00003.safetensors lacks the tensor "d" that .* places there/,
    );
  });

  it.each(['../x.safetensors', '/x.safetensors', '..\\x.safetensors', 'c:x.safetensors', 'x.bin', ''])(
    'the shard name %j',
    async (shard) => {
      await writeFile(join(dir, index), JSON.stringify({ weight_map: { a: shard } }));
      await expect(openCheckpoint(dir)).rejects.toThrow(
        new UserError(
          `${join(dir, index)}: key "weight_map.a": expected the name of a .safetensors file in the same folder`,
        ),
      );
    },
  );
});
