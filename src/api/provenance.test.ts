import { createHash } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dataIdentities, environmentNow, environmentSchema, modelIdentity } from './provenance.js';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lowrank-provenance-'));
});
afterAll(() => rm(root, { recursive: true }));

describe('the identity of a file', () => {
  it('is the hash of its bytes, of more than one piece too', async () => {
    for (const bytes of [0, 5, 3 * 2 ** 20 + 7]) {
      const path = join(root, 'rows.jsonl');
      const data = Uint8Array.from({ length: bytes }, (_, i) => i % 251);
      await writeFile(path, data);
      const sha256 = createHash('sha256').update(data).digest('hex');
      expect(await dataIdentities([path])).toEqual([{ file: 'rows.jsonl', bytes, sha256 }]);
    }
    await expect(dataIdentities([join(root, 'none')])).rejects.toThrow(`cannot read ${join(root, 'none')}`);
  });

  it('of large weights is that of pieces from the first byte to the last', async () => {
    const path = join(root, 'large.gguf');
    const size = 256e6 + 12_345;
    const identities = new Set<string>();
    await writeFile(path, '');
    await truncate(path, size); // A sparse file: nothing but zeros.
    const [{ sha256, ...rest }] = await modelIdentity(path, root);
    expect(rest).toEqual({ file: 'large.gguf', bytes: size, sampled: true });
    identities.add(sha256);
    await writeFile(path, 'x', { flag: 'r+' });
    identities.add((await modelIdentity(path, root))[0].sha256);
    await truncate(path, size - 1);
    await writeFile(path, 'x', { flag: 'a' });
    identities.add((await modelIdentity(path, root))[0].sha256);
    expect(identities.size).toBe(3);
  });

  it("of a folder's model is that of its configuration, tokenizer and weights", async () => {
    const folder = await mkdtemp(join(root, 'model-'));
    for (const name of ['model.safetensors', 'config.json', 'README.md', 'tokenizer.json'])
      await writeFile(join(folder, name), name);
    const files = await modelIdentity('org/name', folder);
    expect(files.map(({ file }) => file)).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
  });
});

describe('the environment', () => {
  it('names the machine, and the packages in their versions', () => {
    const now = environmentNow();
    expect(environmentSchema.parse(now)).toEqual(now);
    expect(now.node).toBe(process.versions.node);
    expect(now.packages['onnxruntime-node']).toMatch(/^\d+\.\d+\.\d+/);
    expect(now.packages.lowrank).toMatch(/^\d+\.\d+\.\d+/);
    // One that lets nobody import its package.json.
    expect(now.packages.hyparquet).toMatch(/^\d+\.\d+\.\d+/);
  });
});
