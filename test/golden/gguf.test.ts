/** Every architecture as GGUF: names and values as llama.cpp has them, and the same model when it is read back. */
import { createHash } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { convert } from '../../src/api/convert.js';
import { inspect } from '../../src/api/inspect.js';
import { readGguf, readGgufTensor } from '../../src/formats/gguf/reader.js';
import { readAdapter } from '../../src/formats/peft.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { openSuite } from './fixture.js';
import { golden, logitsOf, ReferenceBatch, relativeError } from './reference.js';

type Golden = Record<string, { architecture: string; tensors: Record<string, [number[], string]> }>;

/** What scripts/parity/gguf_names.py makes of the same models. */
const expected: Golden = JSON.parse(readFileSync(golden('fixtures-gguf/models.json'), 'utf8'));
const { runtime, scratch } = openSuite('gguf');
/** llama.cpp has Qwen3's experts in all layers only. */
const NOT_THERE = ['qwen3_moe-steps'];
const models = readdirSync(golden('fixtures')).filter((name) => !NOT_THERE.includes(name));

/** Models with other keys of config.json: without what the tiny ones have and llama.cpp has not, and some more. */
const like: Record<string, { model: string; keys: object }> = JSON.parse(
  readFileSync(golden('fixtures-gguf/keys.json'), 'utf8'),
);
const cases = [...new Set([...models, ...Object.keys(like)])];

/** A fixture's model with a tokenizer, and other keys of its config.json. */
function copy(name: string, to: string, keys: object): string {
  const folder = join(scratch, to);
  cpSync(golden(`fixtures/${name}`), folder, { recursive: true });
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, ...keys }));
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    cpSync(golden(`fixtures-gguf/${file}`), join(folder, file));
  return folder;
}

it('knows every model of the fixtures', () => expect(Object.keys(expected).sort()).toEqual(models.sort()));

describe.each(cases)('%s', (name) => {
  const { model: fixture, keys } = like[name] ?? { model: name, keys: {} };
  const { architecture, tensors } = expected[fixture];
  let model: BaseModel;
  let path: string;
  let again: BaseModel;
  let batch: ReferenceBatch;
  beforeAll(async () => {
    const folder = copy(fixture, name, keys);
    path = `${folder}.gguf`;
    await convert(folder, path, { to: 'gguf', dtype: 'float32' });
    await convert(path, `${folder}-again`, { to: 'hf' });
    [model, again] = [await openModel(folder), await openModel(`${folder}-again`)];
    batch = await ReferenceBatch.read(join(folder, 'batch.json'));
  });

  it('has the tensors of llama.cpp, bit for bit', async () => {
    const gguf = await readGguf(path);
    expect(gguf.metadata.get('general.architecture')).toBe(architecture);
    // llama.cpp takes hidden / heads for what is not told.
    const { headDim, hiddenSize, heads } = model.config;
    for (const side of ['key_length', 'value_length']) {
      const told = gguf.metadata.get(`${architecture}.attention.${side}`) ?? hiddenSize / heads;
      expect([side, told]).toEqual([side, headDim]);
    }
    const names = [...gguf.tensors.keys()].filter((tensor) => !tensor.startsWith('rope_'));
    expect(names.sort()).toEqual(Object.keys(tensors).sort());
    for (const [tensor, [shape, sha256]] of Object.entries(tensors)) {
      const info = gguf.tensors.get(tensor)!;
      const bytes = new Uint8Array((await readGgufTensor(gguf, info)).buffer);
      const digest = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
      expect([tensor, info.shape, digest]).toEqual([tensor, shape, sha256]);
    }
  });

  it('is the same model when it is read back', async () => {
    const [before, after] = [
      await logitsOf(runtime, model, undefined, batch),
      await logitsOf(runtime, again, undefined, batch),
    ];
    expect(relativeError(after, before)).toBeLessThan(1e-6);
  });

  it('has LoRA of all its layers as GGUF and back, but of experts', async () => {
    const own = golden(`fixtures/${fixture}/adapter`);
    const adapter = `${path}.lora.gguf`;
    if (model.sites.some(({ expert }) => expert !== undefined)) {
      await expect(convert(own, adapter, { to: 'gguf', base: model.folder })).rejects.toThrow(
        'is in an expert, and GGUF adapters of experts are not written or read; merge it and convert the model',
      );
      return;
    }
    await convert(own, adapter, { to: 'gguf', base: model.folder });
    const described = await inspect(adapter);
    const ofPeft = await readAdapter(own);
    if (described.kind !== 'adapter') throw new Error('an adapter was written');
    expect(described.modules.reduce((n, { count }) => n + count, 0)).toBe(ofPeft.tensors.size / 2);
    const [before, after] = [
      await logitsOf(runtime, model, await readAdapterFor(own, model), batch),
      await logitsOf(runtime, model, await readAdapterFor(adapter, model), batch),
    ];
    expect(relativeError(after, before)).toBeLessThan(1e-6);
  });
});

describe('a model that llama.cpp would compute otherwise', () => {
  it.each<[name: string, what: string, keys?: object]>([
    ['gemma2', 'factors of embeddings, scores, sums or logits'],
    ['gemma3_text', 'factors of embeddings, scores, sums or logits'],
    ['gpt2', 'factors of embeddings, scores, sums or logits'],
    ['smollm3', 'windows and rotary embeddings of layers'],
    ['qwen3_moe-steps', 'experts', { attention_bias: false }],
  ])('%s is refused', async (name, what, keys = {}) => {
    const folder = copy(name, `${name}-other`, keys);
    const { architecture } = expected[name] ?? { architecture: 'qwen3moe' };
    await expect(convert(folder, `${folder}.gguf`, { to: 'gguf' })).rejects.toThrow(
      `${folder}: its ${what} are other than those of ${architecture} in llama.cpp, so it is not written as GGUF`,
    );
  });

  it.each(['mistral', 'qwen2-windows'])('%s is told of', async (name) => {
    const folder = copy(name, `${name}-windows`, {});
    const told: string[] = [];
    await convert(folder, `${folder}.gguf`, { to: 'gguf', onNotice: (notice) => told.push(notice) });
    expect(told.join()).toContain('llama.cpp has no sliding window');
  });
});
