import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { readAdapter, writeAdapter } from './peft.js';
import { checkPeftConfig, type PeftLoraConfig, peftLoraConfig, rankOf, scalingOf } from './peftConfig.js';
import { adapterKey, adapterSites, splitAdapterKey } from './peftNames.js';
import { readSafetensorsHeader, readTensorF32, type TensorEntry, writeSafetensors } from './safetensors.js';

/** Written by PEFT 0.21.2 (scripts/parity/peft_roundtrip.py --fixture). */
const FIXTURE = fileURLToPath(new URL('./fixtures/peft', import.meta.url));

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-peft-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const json = async (path: string) => JSON.parse(await readFile(path, 'utf8'));

describe('an adapter that PEFT wrote', () => {
  it('reads value for value', async () => {
    const { config, tensors } = await readAdapter(FIXTURE);
    const expected: Record<string, { shape: number[]; data: number[] }> = await json(
      join(FIXTURE, 'expected.json'),
    );
    expect(tensors.size).toBe(8);
    for (const [name, { shape, data }] of Object.entries(expected)) {
      const key = name.replace('base_model.model.', '').replace('.weight', '');
      expect(tensors.get(key)).toEqual({ shape, data: Float32Array.from(data) });
    }
    expect(Object.keys(expected).length).toBe(8);
    expect(adapterSites(tensors).sort()).toEqual([
      'model.layers.0.mlp.down_proj',
      'model.layers.0.self_attn.q_proj',
      'model.layers.1.mlp.down_proj',
      'model.layers.1.self_attn.q_proj',
    ]);
    expect(config).toMatchObject({ r: 2, lora_alpha: 6, target_modules: ['down_proj', 'q_proj'] });
    expect(rankOf(config, 'model.layers.1.self_attn.q_proj')).toBe(3);
    expect(scalingOf(config, 'model.layers.1.self_attn.q_proj')).toBe(2);
    expect(scalingOf(config, 'model.layers.0.mlp.down_proj')).toBe(2.5);
  });

  it('is written back byte for byte', async () => {
    const { config, tensors } = await readAdapter(FIXTURE);
    await writeAdapter(dir, config, tensors);
    for (const file of ['adapter_model.safetensors', 'adapter_config.json']) {
      const [ours, theirs] = await Promise.all(
        [dir, FIXTURE].map((folder) => readFile(join(folder, file), 'latin1')),
      );
      expect(ours).toBe(theirs.replace('"lora_dropout": 0.0', '"lora_dropout": 0'));
    }
  });
});

describe("tensors by others' names", () => {
  const entries = async (rename: (name: string) => string, dtype: 'F32' | 'F64' = 'F32') =>
    [...(await readSafetensorsHeader(join(FIXTURE, 'adapter_model.safetensors'))).tensors.values()].map(
      (info): TensorEntry => ({
        name: rename(info.name),
        dtype,
        shape: info.shape,
        data: async () => {
          const values = await readTensorF32(info);
          return new Uint8Array((dtype === 'F64' ? Float64Array.from(values) : values).buffer);
        },
      }),
    );
  const write = async (list: TensorEntry[]) => {
    await cp(FIXTURE, dir, { recursive: true });
    await writeSafetensors(join(dir, 'adapter_model.safetensors'), list);
  };
  const prefix = 'base_model.model.';

  it.each<[string, (name: string) => string]>([
    ["the adapter's name", (name) => name.replace(/weight$/, 'default.weight')],
    ['torch.compile in front', (name) => `_orig_mod.${name}`],
    ['torch.compile within', (name) => name.replace(prefix, `${prefix}_orig_mod.`)],
    ['a compiled layer', (name) => name.replace(/layers\.\d+/, '$&._orig_mod')],
    ['data parallel in front', (name) => `module.${name}`],
    ['data parallel within', (name) => name.replace(prefix, `${prefix}module.`)],
    ['all of them', (name) => `module._orig_mod.${name.replace(/weight$/, 'default.weight')}`],
  ])('%s', async (_, rename) => {
    await write(await entries(rename));
    expect(await readAdapter(dir)).toEqual(await readAdapter(FIXTURE));
  });

  it('float64', async () => {
    await write(await entries((name) => name, 'F64'));
    expect(await readAdapter(dir)).toEqual(await readAdapter(FIXTURE));
  });

  it("biases of a module with a copy of its own, which bias='all' writes twice more and PEFT does not read", async () => {
    const list = await entries((name) => name);
    const module = `${prefix}model.layers.0.self_attn.k_proj`;
    const data = async () => new Uint8Array(4);
    for (const own of ['modules_to_save', 'original_module']) {
      list.push({ name: `${module}.${own}.bias`, dtype: 'F32', shape: [1], data });
    }
    await write(list);
    expect(await readAdapter(dir)).toEqual(await readAdapter(FIXTURE));
  });

  it("a magnitude's, as older versions of PEFT have it", async () => {
    const dora = fileURLToPath(
      new URL('../../test/golden/fixtures-methods/qwen2-dora/adapter', import.meta.url),
    );
    await cp(dora, dir, { recursive: true });
    const infos = (await readSafetensorsHeader(join(dora, 'adapter_model.safetensors'))).tensors.values();
    const list = [...infos].map((info): TensorEntry => {
      const name = info.name.replace(/lora_magnitude_vector$/, '$&.weight');
      const data = async () => new Uint8Array((await readTensorF32(info)).buffer);
      return { name, dtype: 'F32', shape: info.shape, data };
    });
    await writeSafetensors(join(dir, 'adapter_model.safetensors'), list);
    expect(await readAdapter(dir)).toEqual(await readAdapter(dora));
  });

  it('are one tensor only once', async () => {
    await write([
      ...(await entries((name) => name)),
      ...(await entries((name) => `module.${name}`)).slice(0, 1),
    ]);
    await expect(readAdapter(dir)).rejects.toThrow(/tensors "base_.*" and "module\.base_.*" are one$/);
  });
});

describe('readAdapter refuses', () => {
  beforeEach(() => cp(FIXTURE, dir, { recursive: true }));
  const edit = async (change: Record<string, unknown>) => {
    const path = join(dir, 'adapter_config.json');
    await writeFile(path, JSON.stringify({ ...(await json(path)), ...change }));
  };

  it('a folder without its files', async () => {
    await rm(join(dir, 'adapter_model.safetensors'));
    await expect(readAdapter(dir)).rejects.toThrow(new UserError(`${dir} has no adapter_model.safetensors`));
    await rm(join(dir, 'adapter_config.json'));
    await expect(readAdapter(dir)).rejects.toThrow(/is not an adapter folder/);
  });

  it('a pickle, and says how to convert it', async () => {
    await rm(join(dir, 'adapter_model.safetensors'));
    await writeFile(join(dir, 'adapter_model.bin'), '');
    await expect(readAdapter(dir)).rejects.toThrow(
      `${dir} has adapter_model.bin, a pickle, which is a program and is not read; write it as adapter_model.safetensors in Python: from safetensors.torch import save_file; `,
    );
  });

  it('another rank than its matrices have', async () => {
    await edit({ r: 4 });
    await expect(readAdapter(dir)).rejects.toThrow(
      /lora_A of model.layers.0.mlp.down_proj has shape \[2, 12\], expected \[4, in\]$/,
    );
  });

  it.each([
    [
      'a renamed suffix',
      'lora_A.weight',
      'lora_Q.weight',
      /"base_model.*lora_Q.weight" is not of a LoRA adapter/,
    ],
    ['another prefix', 'base_model.model.model', 'base_model.mxdel.model', /is not of a LoRA adapter/],
    ['a lone half', 'layers.0.mlp.down_proj.lora_A', 'layers.5.mlp.down_proj.lora_A', /lacks its lora_/],
  ])('%s', async (_, from, to, message) => {
    const path = join(dir, 'adapter_model.safetensors');
    await writeFile(path, Buffer.from((await readFile(path, 'latin1')).replace(from, to), 'latin1'));
    const error = await readAdapter(dir).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toMatch(message);
  });
});

describe('of an adapter with more in it, readAdapter refuses', () => {
  const option = (name: string) =>
    fileURLToPath(new URL(`../../test/golden/fixtures-options/${name}/adapter`, import.meta.url));
  it.each([
    [
      'llama2-modules-to-save',
      { modules_to_save: ['lm_head', 'embed_tokens'] },
      /"base_model.model.model.norm.weight" is not of a LoRA/,
    ],
    ['qwen2-bias-all', { bias: 'none' }, /k_proj.bias" is not of a LoRA adapter/],
    ['smollm2-lora-bias', { lora_bias: false }, /o_proj.lora_B.bias" is not of a LoRA adapter/],
    ['qwen2-layers', { lora_bias: true }, /layers.1.self_attn.k_proj lacks its lora_bias$/],
    [
      'smollm2-embedding',
      { r: 3 },
      /lora_embedding_A of model.embed_tokens has shape \[4, 96\], expected \[3, in\]$/,
    ],
    ['smollm2-tokens', { trainable_token_indices: null }, /trainable_tokens_delta" is not of a LoRA adapter/],
    [
      'smollm2-tokens',
      { trainable_token_indices: [1] },
      /trainable_tokens_delta of model.embed_tokens has shape \[3, 24\], expected \[1, in\]$/,
    ],
  ])('%s as %j', async (name, change, message) => {
    await cp(option(name), dir, { recursive: true });
    const path = join(dir, 'adapter_config.json');
    await writeFile(path, JSON.stringify({ ...(await json(path)), ...change }));
    await expect(readAdapter(dir)).rejects.toThrow(message);
  });
});

describe('of the descendants, readAdapter refuses', () => {
  const other = (name: string) =>
    fileURLToPath(new URL(`../../test/golden/fixtures-methods/${name}/adapter`, import.meta.url));
  const renamed = async (name: string, from: string, to: string) => {
    await cp(other(name), dir, { recursive: true });
    const path = join(dir, 'adapter_model.safetensors');
    await writeFile(path, Buffer.from((await readFile(path, 'latin1')).replace(from, to), 'latin1'));
  };

  it('DoRA without a magnitude', async () => {
    await renamed('qwen2-dora', '0.mlp.down_proj.lora_m', '7.mlp.down_proj.lora_m');
    await expect(readAdapter(dir)).rejects.toThrow('0.mlp.down_proj lacks its lora_magnitude_vector');
  });

  it('a magnitude in plain LoRA', async () => {
    await cp(other('qwen2-dora'), dir, { recursive: true });
    const path = join(dir, 'adapter_config.json');
    await writeFile(path, JSON.stringify({ ...(await json(path)), use_dora: false }));
    await expect(readAdapter(dir)).rejects.toThrow('lora_magnitude_vector" is not of a LoRA adapter');
  });

  it('VeRA without its matrices', async () => {
    await cp(other('qwen2-vera'), dir, { recursive: true });
    const path = join(dir, 'adapter_config.json');
    await writeFile(path, JSON.stringify({ ...(await json(path)), save_projection: false }));
    await expect(readAdapter(dir)).rejects.toThrow(/"save_projection": .*save with save_projection=True$/);
    await renamed('qwen2-vera', 'base_model.vera_A', 'base_model.vera_C');
    await expect(readAdapter(dir)).rejects.toThrow('vera_C" is not of a VeRA adapter');
  });

  it('VeRA of another rank', async () => {
    await cp(other('qwen2-vera'), dir, { recursive: true });
    const path = join(dir, 'adapter_config.json');
    await writeFile(path, JSON.stringify({ ...(await json(path)), r: 5 }));
    await expect(readAdapter(dir)).rejects.toThrow(/has shape \[12\], expected \[5\]$/);
  });
});

describe('checkPeftConfig', () => {
  const check = (more: object) => checkPeftConfig('c.json', { peft_type: 'LORA', ...more }) as PeftLoraConfig;

  it('fills in the defaults of PEFT', async () => {
    const { lora_dropout, r, lora_alpha, ...rest } = check({});
    expect([r, lora_alpha, lora_dropout]).toEqual([8, 8, 0]);
    expect(rest).toMatchObject({ use_rslora: false, init_lora_weights: true, rank_pattern: {} });
  });

  it.each([
    [
      { peft_type: 'IA3' },
      /^c.json: key "peft_type": "IA3" is not read, expected LORA, ADALORA, VERA, MISS, HIRA, PREFIX_TUNING, /,
    ],
    [
      { task_type: 'QUESTION_ANS' },
      /^c.json: task_type "QUESTION_ANS" is not supported, expected CAUSAL_LM, /,
    ],
    [{ use_qalora: true }, /^c.json: use_qalora true is not implemented$/],
    [{ bias: 'some' }, /^c.json: key "bias": /],
    [{ modules_to_save: 'lm_head' }, /^c.json: key "modules_to_save": /],
    [{ trainable_token_indices: [-1] }, /^c.json: key "trainable_token_indices/],
    [{ lora_bias: true, use_dora: true }, /^c.json: lora_bias needs init_lora_weights true or false/],
    [{ lora_bias: true, init_lora_weights: 'gaussian' }, /^c.json: lora_bias needs /],
    [
      { init_lora_weights: 'pissa' },
      /"pissa" took .* save it with PEFT's path_initial_model_for_weight_conversion/,
    ],
    [{ init_lora_weights: 'corda' }, /^c.json: key "init_lora_weights": "corda" took a part out of the base/],
    [{ init_lora_weights: 'other' }, /^c.json: key "init_lora_weights": "other" is not implemented/],
    [{ some_new_key: 3 }, /^c.json: some_new_key 3 is not implemented$/],
    [{ constructor: 'x' }, /^c.json: constructor "x" is not implemented$/],
    [{ r: 0 }, /^c.json: key "r": /],
    [{ r: 1.5 }, /^c.json: key "r": /],
    [{ lora_dropout: 1 }, /^c.json: key "lora_dropout": /],
    [
      { rank_pattern: { '(': 3 } },
      /^c.json: rank_pattern "\(" is not a regular expression of Python's: missing \), unterminated subpattern$/,
    ],
  ])('refuses %j', (more, message) => {
    expect(() => check(more)).toThrow(UserError);
    expect(() => check(more)).toThrow(message);
  });

  it('lets keys pass that change nothing', () => {
    const idle = {
      corda_config: { corda_method: 'ipm' },
      qalora_group_size: 32,
      runtime_config: { a: 1 },
      some_new_key: {},
    };
    expect(check({ ...idle, bias: 'none', rank_pattern: null })).toEqual(check({}));
  });

  it('takes null as PEFT does, for a switch that is off', () => {
    const flags = ['use_rslora', 'use_dora', 'lora_bias', 'fan_in_fan_out', 'init_lora_weights'];
    const off = Object.fromEntries([...flags, 'ensure_weight_tying', 'use_qalora'].map((key) => [key, null]));
    expect(check(off)).toEqual(check({}));
  });

  it("keeps how EVA's start came about", () => {
    const eva = check({ init_lora_weights: 'eva', eva_config: { rho: 3 } });
    expect(eva).toMatchObject({ eva_config: { rho: 3, tau: 0.99, use_label_mask: true } });
    expect(() => check({ eva_config: { rho: 0.5 } })).toThrow('key "eva_config.rho"');
  });

  it('throws nothing but UserError', () => {
    const keys = ['peft_type', 'r', 'rank_pattern', 'target_modules', 'bias', '__proto__', 'x'];
    const value = fc.oneof(fc.jsonValue(), fc.constantFrom('LORA', 8, 'none'));
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom(...keys), value)), (config) => {
        try {
          checkPeftConfig('c.json', config);
        } catch (error) {
          expect(error).toBeInstanceOf(UserError);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('patterns', () => {
  it('match whole name endings, the first one wins', () => {
    const config = peftLoraConfig({
      rank_pattern: { proj: 2, q_proj: 3, 'layers\\.[01]\\..*v_proj': 4, '^model.x': 5 },
      use_rslora: true,
      lora_alpha: 6,
    });
    expect(rankOf(config, 'model.layers.0.q_proj')).toBe(3);
    expect(rankOf(config, 'model.layers.1.self_attn.v_proj')).toBe(4);
    expect(rankOf(config, 'model.layers.2.self_attn.v_proj')).toBe(8);
    expect(rankOf(config, 'model.x')).toBe(5);
    expect(scalingOf(config, 'a.proj')).toBeCloseTo(6 / Math.sqrt(2), 12);
  });

  it('adapterKey and splitAdapterKey are inverse', () => {
    expect(splitAdapterKey(adapterKey('a.b', 'lora_B'))).toEqual({ site: 'a.b', part: 'lora_B' });
    expect(splitAdapterKey('a.b.weight')).toBeUndefined();
    expect(splitAdapterKey('lora_A')).toBeUndefined();
  });
});
