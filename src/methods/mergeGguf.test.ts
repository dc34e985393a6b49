import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sizeOf } from '../base/tensor.js';
import { dequantize } from '../formats/gguf/dequant.js';
import { encodeGgml } from '../formats/gguf/quantize.js';
import { readGguf, readGgufTensor } from '../formats/gguf/reader.js';
import { GGUF_DTYPES } from '../formats/gguf/types.js';
import { loadTokenizer } from '../formats/tokenizer.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { openModel } from '../models/base.js';
import { ggufToHf } from '../models/gguf/file.js';
import { createAdapter } from './adapter.js';
import { methodNamed } from './index.js';
import { writeMergedModel } from './merge.js';
import { writeMergedGguf } from './mergeGguf.js';

const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const fixture = (name: string) => file(`src/formats/gguf/fixtures/${name}`);
const json = async (path: string) => JSON.parse(await readFile(path, 'utf8'));

const runtime = new NodeRuntime();
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-merge-gguf-'));
});
afterAll(async () => {
  await runtime.close();
  await rm(dir, { recursive: true });
});

// Files that llama.cpp's own package wrote, read into folders and written as GGUF again.
describe.each(['llama-bpe', 'llama-tekken', 'llama-spm', 'qwen2', 'qwen3'])('%s and back', (name) => {
  let folder: string;
  let written: string;
  beforeAll(async () => {
    folder = join(dir, name);
    written = `${folder}.gguf`;
    await ggufToHf(fixture(`${name}.gguf`), folder, { dtype: 'float32' });
    await writeMergedGguf(written, runtime, await openModel(folder), undefined, { dtype: 'float32' });
  });

  it('has every tensor of the original file, bit for bit and in its order of rows', async () => {
    const [ours, theirs] = await Promise.all([written, fixture(`${name}.gguf`)].map(readGguf));
    expect([...ours.tensors.keys()].sort()).toEqual([...theirs.tensors.keys()].sort());
    for (const [tensor, info] of theirs.tensors) {
      const found = ours.tensors.get(tensor)!;
      expect([tensor, found.type, found.shape]).toEqual([tensor, 'F32', info.shape]);
      const [mine, original] = [await readGgufTensor(ours, found), await readGgufTensor(theirs, info)];
      if (tensor === 'rope_freqs.weight') {
        original.forEach((x, i) => expect(Math.abs(mine[i] / x - 1)).toBeLessThan(1e-6));
      } else expect(Buffer.from(mine.buffer).equals(Buffer.from(original.buffer))).toBe(true);
    }
  });

  it('says of the model and its tokens what the original file says', async () => {
    const [ours, theirs] = await Promise.all([written, fixture(`${name}.gguf`)].map(readGguf));
    for (const [key, value] of theirs.metadata) {
      if (/^general\.(name|file_type|quantization_version)|\.scores$|\.pre$/.test(key)) continue;
      if (ours.metadata.has(key)) expect([key, ours.metadata.get(key)]).toEqual([key, value]);
    }
    for (const key of ['tokenizer.ggml.tokens', 'tokenizer.ggml.token_type', 'tokenizer.ggml.eos_token_id']) {
      expect([key, ours.metadata.has(key)]).toEqual([key, true]);
    }
    expect(ours.metadata.get('tokenizer.chat_template')).toEqual(
      theirs.metadata.get('tokenizer.chat_template'),
    );
  });

  it('is the same folder when it is read again, tokenizer and all', async () => {
    const again = join(dir, `${name}-again`);
    await ggufToHf(written, again, { dtype: 'float32' });
    expect(await json(join(again, 'config.json'))).toEqual(await json(join(folder, 'config.json')));
    const [before, after] = await Promise.all([folder, again].map((at) => loadTokenizer(at)));
    const { tokens } = await json(fixture(`${name}.json`));
    expect(tokens.length).toBeGreaterThan(5);
    for (const [text, ids] of tokens) {
      expect([text, before.encode(text)]).toEqual([text, ids]);
      expect([text, after.encode(text)]).toEqual([text, ids]);
    }
  });
});

describe('a merged model as GGUF', () => {
  const demo = file('assets/base');

  it.each(['q8_0', 'q4_0', 'float16', 'bfloat16'] as const)(
    'in %s holds what the folder holds',
    async (dtype) => {
      const model = await openModel(demo);
      const method = methodNamed('lora');
      const adapter = await createAdapter(method, method.parse('lora', { r: 2 }), model, 0);
      for (const { data } of adapter.values.values())
        data.forEach((_, i) => (data[i] = ((i * 7919) % 97) / 970));
      const path = join(dir, `${dtype}.gguf`);
      const told: number[] = [];
      await writeMergedGguf(path, runtime, model, adapter, {
        dtype,
        onProgress: ({ done, total }) => told.push(done / total),
      });
      expect(told.at(-1)).toBe(1);
      const folder = join(dir, `${dtype}-folder`);
      await writeMergedModel(folder, runtime, model, adapter, { dtype: 'float32' });
      const { checkpoint } = await openModel(folder);
      const gguf = await readGguf(path);
      const pairs = {
        'blk.1.ffn_up.weight': 'model.layers.1.mlp.up_proj.weight',
        'blk.1.attn_v.weight': 'model.layers.1.self_attn.v_proj.weight',
        'blk.1.ffn_down.weight': 'model.layers.1.mlp.down_proj.weight',
        'token_embd.weight': 'model.embed_tokens.weight',
        'blk.0.attn_norm.weight': 'model.layers.0.input_layernorm.weight',
      };
      for (const [name, hf] of Object.entries(pairs)) {
        const info = gguf.tensors.get(name)!;
        const isHead = name === 'token_embd.weight' && dtype === 'q4_0';
        const wanted = isHead ? 'q8_0' : dtype;
        const whole = info.shape.at(-1)! % 32 === 0 || !wanted.startsWith('q');
        const stored = info.shape.length === 1 ? 'float32' : whole ? wanted : 'float16';
        expect([name, info.type]).toEqual([name, GGUF_DTYPES[stored].type]);
        const values = new Float32Array(sizeOf(info.shape));
        dequantize(info.type, encodeGgml(await checkpoint.read(hf), stored), values);
        const found = await readGgufTensor(gguf, info);
        expect([name, Buffer.from(found.buffer).equals(Buffer.from(values.buffer))]).toEqual([name, true]);
      }
    },
  );

  it('is not written where llama.cpp has no such tokenizer, and nothing is left', async () => {
    const folder = join(dir, 'other-tokenizer');
    await cp(demo, folder, { recursive: true });
    const tokenizer = await json(join(folder, 'tokenizer.json'));
    tokenizer.pre_tokenizer = { type: 'Whitespace' };
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
    const path = join(dir, 'none.gguf');
    await expect(writeMergedGguf(path, runtime, await openModel(folder), undefined)).rejects.toThrow(
      `${folder}/tokenizer.json: its normalizer and pre_tokenizer split text in a way that llama.cpp is not known to have`,
    );
    expect((await readdir(dir)).filter((name) => name.includes('none'))).toEqual([]);
  });

  it('is not written with biases that llama.cpp has not', async () => {
    const model = await openModel(demo);
    const config = { ...model.config, bias: { qkv: false, o: true, mlp: false } };
    await expect(
      writeMergedGguf(join(dir, 'x.gguf'), runtime, { ...model, config }, undefined),
    ).rejects.toThrow('its biases are other than those of llama in llama.cpp');
  });
});
