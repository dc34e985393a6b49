import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { openCheckpoint } from '../../formats/checkpoint.js';
import { readGguf } from '../../formats/gguf/reader.js';
import { exists } from '../../formats/io/node.js';
import { readTensorBytes } from '../../formats/safetensors.js';
import { loadTokenizer } from '../../formats/tokenizer.js';
import { ggufToHf } from './file.js';

/** What other people's code makes of the same models (scripts/parity/gguf_goldens.py). */
interface Golden {
  config?: Record<string, unknown>;
  tensors: Record<string, [shape: number[], sha256: string]>;
  tokens: [text: string, ids: number[]][];
}

const FIXTURES = fileURLToPath(new URL('../../formats/gguf/fixtures', import.meta.url));
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const SMOLLM2 = join(
  process.env.LOWRANK_MODELS ?? join(ROOT, '.cache', 'models'),
  'SmolLM2-135M-Instruct.Q4_1.gguf',
);

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-tohf-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const json = async (path: string) => JSON.parse(await readFile(path, 'utf8'));

async function expectTensors(folder: string, golden: Golden) {
  const checkpoint = await openCheckpoint(folder);
  expect([...checkpoint.tensors.keys()].sort()).toEqual(Object.keys(golden.tensors).sort());
  for (const [name, [shape, sha256]] of Object.entries(golden.tensors)) {
    expect([name, checkpoint.tensors.get(name)?.shape]).toEqual([name, shape]);
    const values = await checkpoint.read(name);
    const digest = createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');
    expect([name, digest.slice(0, 16)]).toEqual([name, sha256]);
  }
}

async function expectTokens(folder: string, golden: Golden) {
  const tokenizer = await loadTokenizer(folder);
  for (const [text, ids] of golden.tokens) expect([text, [...tokenizer.encode(text)]]).toEqual([text, ids]);
  return tokenizer;
}

describe.each(['llama-bpe', 'llama-tekken', 'llama-kquants', 'llama-spm', 'qwen2', 'qwen3'])(
  'ggufToHf of %s',
  (name) => {
    let golden: Golden;
    let out: string;
    beforeAll(async () => {
      golden = await json(join(FIXTURES, `${name}.json`));
      out = join(dir, name);
      await ggufToHf(join(FIXTURES, `${name}.gguf`), out);
    });

    it('gives the configuration of the model that was stored', async () => {
      expect(await json(join(out, 'config.json'))).toMatchObject(golden.config!);
    });

    it('gives every tensor bit for bit', () => expectTensors(out, golden));

    it('gives the same token ids', () => expectTokens(out, golden));
  },
);

describe('ggufToHf', () => {
  const source = join(FIXTURES, 'llama-bpe.gguf');

  it('writes a whole folder with special tokens and template, in the dtype asked for', async () => {
    const out = join(dir, 'bf16');
    await ggufToHf(source, out, { dtype: 'bfloat16' });
    expect((await readdir(out)).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(await json(join(out, 'config.json'))).toMatchObject({
      architectures: ['LlamaForCausalLM'],
      torch_dtype: 'bfloat16',
      bos_token_id: 0,
      eos_token_id: 1,
      pad_token_id: null,
    });
    expect(await json(join(out, 'generation_config.json'))).toEqual({
      bos_token_id: 0,
      eos_token_id: 1,
      pad_token_id: null,
    });
    const config = await json(join(out, 'tokenizer_config.json'));
    expect([config.bos_token, config.eos_token, config.pad_token]).toEqual(['<|begin|>', '<|end|>', null]);
    expect(config.chat_template).toMatch(/^{{ bos_token }}/);
    const { tensors } = await openCheckpoint(out);
    expect(new Set([...tensors.values()].map((t) => t.dtype))).toEqual(new Set(['BF16']));
  });

  it('keeps the type of each tensor that has one, bytes and all', async () => {
    const path = join(FIXTURES, 'llama-tekken.gguf');
    const out = join(dir, 'kept');
    await ggufToHf(path, out);
    const { tensors } = await openCheckpoint(out);
    for (const { name, dtype } of tensors.values()) {
      expect([name, dtype]).toEqual([name, name.includes('norm') ? 'F32' : 'F16']);
    }
    const gguf = (await readGguf(path)).tensors.get('blk.0.ffn_up.weight')!;
    const bytes = (await readFile(path)).subarray(gguf.offset, gguf.offset + gguf.length);
    const written = await readTensorBytes(tensors.get('model.layers.0.mlp.up_proj.weight')!);
    expect(Buffer.compare(written, bytes)).toBe(0);
    expect((await json(join(out, 'config.json'))).torch_dtype).toBe('float16');

    const mixed = join(dir, 'mixed');
    await ggufToHf(join(FIXTURES, 'qwen3.gguf'), mixed);
    const dtypes = [...(await openCheckpoint(mixed)).tensors.values()].map(({ dtype }) => dtype);
    expect(new Set(dtypes)).toEqual(new Set(['F32', 'BF16']));
    expect((await json(join(mixed, 'config.json'))).torch_dtype).toBe('float32');
  });

  it('keeps named chat templates', async () => {
    const out = join(dir, 'templates');
    await ggufToHf(join(FIXTURES, 'llama-tekken.gguf'), out);
    expect((await json(join(out, 'tokenizer_config.json'))).chat_template).toEqual([
      { name: 'default', template: '{{ messages[0].content }}' },
      { name: 'tool_use', template: '{{ tools | length }}' },
    ]);
    expect((await loadTokenizer(out)).chatTemplate).toBe('{{ messages[0].content }}');
  });

  it('refuses an existing folder unless asked', async () => {
    const out = join(dir, 'twice');
    await ggufToHf(source, out);
    await expect(ggufToHf(source, out)).rejects.toThrow(/exists already/);
    await ggufToHf(source, out, { overwrite: true, dtype: 'float16' });
    expect((await json(join(out, 'config.json'))).torch_dtype).toBe('float16');
  });

  /** Equal lengths, so that the rest of the file stays in place. */
  it.each([
    [
      'an architecture',
      'llama',
      'rwkv6',
      /architecture "rwkv6" is not converted, expected llama, qwen2, qwen3/,
    ],
    [
      'a missing key',
      'block_count',
      'block_cuont',
      /metadata "llama.block_count" is missing, expected a whole/,
    ],
    [
      'a missing tensor',
      'output_norm.weight',
      'output_norn.weight',
      /"output_norn.weight" is not part of a llama/,
    ],
    [
      'a way to split text',
      'llama-bpe',
      'llama-xyz',
      /tokenizer.ggml.pre is "llama-xyz", expected default, gpt-2/,
    ],
    ['a merge', 't h', 't\u0001h', /the merge "t\\u0001h" is no pair of tokens that makes a token/],
    ['a kind of vocabulary', 'gpt2', 'bert', /tokenizer.ggml.model is "bert", expected gpt2 or llama/],
  ])('refuses %s that it does not know, and leaves nothing', async (_, from, to, message) => {
    const path = join(dir, 'changed.gguf');
    const bytes = (await readFile(source)).toString('latin1').replace(from, to);
    await writeFile(path, Buffer.from(bytes, 'latin1'));
    const out = join(dir, 'refused');
    const error = await ggufToHf(path, out).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toMatch(message);
    expect(await exists(out)).toBe(false);
    expect((await readdir(dir)).filter((name) => name.includes('refused'))).toEqual([]);
  });
});

describe('ggufToHf of changed files', () => {
  it.each(['llama-spm', 'qwen2'])('throws nothing but UserError (%s)', async (name) => {
    const good = await readFile(join(FIXTURES, `${name}.gguf`));
    const path = join(dir, 'fuzzed.gguf');
    const out = join(dir, 'fuzzed');
    const mutation = fc.record({
      at: fc.nat(12_000),
      bytes: fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 8 }), fc.constant(new Uint8Array(4))),
    });
    let converted = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 2 }), async (mutations) => {
        const bytes = new Uint8Array(good);
        for (const m of mutations) bytes.set(m.bytes, m.at);
        await writeFile(path, bytes);
        try {
          await ggufToHf(path, out, { overwrite: true });
          converted++;
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
        }
      }),
      { numRuns: 60 },
    );
    expect(converted).toBeGreaterThan(2);
  });
});

/** In CI its absence is a failure; elsewhere scripts/fetch_models.py has not been run. */
const available = await exists(SMOLLM2);
describe.skipIf(!available && process.env.CI !== 'true')('SmolLM2 [needs scripts/fetch_models.py]', () => {
  let golden: Golden;
  let out: string;
  beforeAll(async () => {
    golden = await json(join(FIXTURES, 'smollm2.json'));
    out = join(dir, 'smollm2');
    await ggufToHf(SMOLLM2, out);
  });

  it('gives every tensor as transformers reads it', () => expectTensors(out, golden));

  it('gives the token ids of the Rust tokenizer over 400 strings, and the text back', async () => {
    const tokenizer = await expectTokens(out, golden);
    expect(golden.tokens.length).toBe(400);
    for (const [text, ids] of golden.tokens) expect(tokenizer.decode(ids)).toBe(text);
    expect(tokenizer.chatTemplate).toMatch(/<\|im_start\|>/);
  });

  it('gives its configuration', async () => {
    expect(await json(join(out, 'config.json'))).toEqual({
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      hidden_size: 576,
      intermediate_size: 1536,
      num_hidden_layers: 30,
      num_attention_heads: 9,
      num_key_value_heads: 3,
      head_dim: 64,
      vocab_size: 49152,
      max_position_embeddings: 8192,
      rms_norm_eps: 1e-5,
      rope_theta: 100000,
      rope_scaling: null,
      hidden_act: 'silu',
      attention_bias: false,
      mlp_bias: false,
      tie_word_embeddings: true,
      bos_token_id: 1,
      eos_token_id: 2,
      pad_token_id: 2,
      torch_dtype: 'float32',
    });
  });
});
