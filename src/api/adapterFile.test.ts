import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeGguf } from '../formats/gguf/writer.js';
import { loadAdapterFolder } from '../methods/files.js';
import { openModel } from '../models/base.js';
import { baseNamedBy, readAdapterFor } from './adapterFile.js';
import { convert } from './convert.js';
import { type AdapterInspection, baseOfAdapter, inspect } from './inspect.js';

const golden = (name: string) =>
  fileURLToPath(new URL(`../../test/golden/fixtures/${name}`, import.meta.url));
let folder: string;
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-adapter-file-'));
});
afterAll(() => rm(folder, { recursive: true }));

it.each(['llama2', 'qwen2'])('a GGUF file is the adapter that it was made of (%s)', async (name) => {
  const model = await openModel(golden(name));
  const source = join(golden(name), 'adapter');
  await convert(source, at(`${name}.gguf`), { base: golden(name) });
  const [peft, gguf] = [
    await loadAdapterFolder(source, model),
    await readAdapterFor(at(`${name}.gguf`), model),
  ];
  expect(gguf.method).toBe(peft.method);
  expect(new Map([...gguf.values].sort())).toEqual(new Map([...peft.values].sort()));

  const seen = (await inspect(at(`${name}.gguf`))) as AdapterInspection;
  const expected = (await inspect(source)) as AdapterInspection;
  const sorted = ({ modules }: AdapterInspection) => modules.sort((a, b) => (a.pattern < b.pattern ? -1 : 1));
  expect(sorted(seen)).toEqual(sorted(expected));
  expect(seen).toMatchObject({
    kind: 'adapter',
    base: null,
    method: 'LoRA',
    parameters: expected.parameters,
  });
});

it('names no base', async () => {
  await convert(join(golden('qwen3'), 'adapter'), at('nameless.gguf'), { base: golden('qwen3') });
  expect(await baseNamedBy(at('nameless.gguf'))).toBeNull();
  await expect(baseOfAdapter(at('nameless.gguf'))).rejects.toThrow('nameless.gguf names no base model');
});

it('refuses models, adapters of other models and broken ones', async () => {
  const model = await openModel(golden('llama2'));
  const odd = at('odd.gguf');
  const write = async (fields: Record<string, string>, names: readonly string[] = []) => {
    await rm(odd, { force: true });
    const strings = Object.entries(fields).map(([key, value]) => ({ key, type: 'string' as const, value }));
    const data = () => new Uint8Array(4 * 4);
    await writeGguf(
      odd,
      strings,
      names.map((name) => ({ name, dtype: 'float32' as const, shape: [2, 2], data })),
    );
  };
  await write({ 'general.architecture': 'llama' });
  await expect(baseNamedBy(odd)).rejects.toThrow('odd.gguf is a model, not an adapter');
  const kind = { 'general.type': 'adapter', 'adapter.type': 'lora' };
  await write({ ...kind, 'general.architecture': 'mamba' });
  await expect(inspect(odd)).rejects.toThrow('adapters for "mamba" are not read, expected one of llama');
  await write({ ...kind, 'general.architecture': 'llama' }, [
    'blk.0.ssm.weight.lora_a',
    'blk.0.ssm.weight.lora_b',
  ]);
  await expect(inspect(odd)).rejects.toThrow('blk.0.ssm.weight is no linear layer of llama');
  await expect(readAdapterFor(odd, model)).rejects.toThrow('blk.0.ssm.weight is no linear layer of');
  await writeFile(at('text.gguf'), 'not a GGUF file');
  await expect(readAdapterFor(at('text.gguf'), model)).rejects.toThrow('text.gguf');
});
