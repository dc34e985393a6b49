import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { Rng } from '../../base/rng.js';
import { openCheckpoint } from '../../formats/checkpoint.js';
import { encodeF32 } from '../../formats/float16.js';
import { type LoraBase, readLoraGguf, writeLoraGguf } from '../../formats/gguf/lora.js';
import { readGguf, readGgufTensor } from '../../formats/gguf/reader.js';
import { type GgufEntry, type GgufField, writeGguf } from '../../formats/gguf/writer.js';
import type { AdapterFiles } from '../../formats/peft.js';
import { type PeftLoraConfig, peftLoraConfig, rankOf, scalingOf } from '../../formats/peftConfig.js';
import { adapterKey, adapterSites } from '../../formats/peftNames.js';
import { describeGguf, ggufToHf } from './file.js';
import { loraBaseOf } from './lora.js';

const fixture = (name: string) =>
  fileURLToPath(new URL(`../../formats/gguf/fixtures/${name}.gguf`, import.meta.url));

let dir: string;
let path: string;
let llama: LoraBase;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-lora-'));
  path = join(dir, 'adapter.gguf');
  llama = await baseOf('llama-bpe');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function baseOf(name: string): Promise<LoraBase> {
  const { form, described } = await describeGguf(await readGguf(fixture(name)));
  return loraBaseOf(name, form, described);
}

/** Random matrices for the sites whose name ends with one of `targets`, by the ranks of the configuration. */
function adapterFor(
  base: LoraBase,
  given: Partial<PeftLoraConfig>,
): AdapterFiles & { config: PeftLoraConfig } {
  const config = peftLoraConfig({ task_type: 'CAUSAL_LM', ...given });
  const targets = config.target_modules as string[];
  const sites = [...base.layers].filter(([site]) => targets.some((t) => site.endsWith(`.${t}`)));
  const tensors = new Map(
    sites.flatMap(([site, layer]) => {
      const r = rankOf(config, site);
      const matrix = (shape: number[]) => {
        const rng = new Rng(0, `${site} ${shape}`);
        return { shape, data: Float32Array.from({ length: shape[0] * shape[1] }, () => rng.normal()) };
      };
      return [
        [adapterKey(site, 'lora_A'), matrix([r, layer.in])],
        [adapterKey(site, 'lora_B'), matrix([layer.out, r])],
      ] as const;
    }),
  );
  return { config, tensors };
}

/** scale·B·A, row-major. */
function product(b: Float32Array, a: Float32Array, r: number, scale: number): number[] {
  const [outputs, inputs] = [b.length / r, a.length / r];
  return Array.from({ length: outputs * inputs }, (_, at) => {
    const [row, column] = [Math.floor(at / inputs), at % inputs];
    let sum = 0;
    for (let k = 0; k < r; k++) sum += b[row * r + k] * a[k * inputs + column];
    return scale * sum;
  });
}

function change({ config, tensors }: AdapterFiles, site: string): number[] {
  const [a, b] = (['lora_A', 'lora_B'] as const).map((part) => tensors.get(adapterKey(site, part))!.data);
  return product(b, a, rankOf(config, site), scalingOf(config, site));
}

/** What llama.cpp adds to a tensor, in its order of rows: get_scale of llama-adapter.h. */
async function llamaCppChange(file: string, tensor: string): Promise<number[]> {
  const gguf = await readGguf(file);
  const alpha = (gguf.metadata.get('adapter.lora.alpha') as number | undefined) ?? 0;
  const a = gguf.tensors.get(`${tensor}.lora_a`)!;
  const b = gguf.tensors.get(`${tensor}.lora_b`)!;
  const rank = b.shape[1];
  const values = [await readGgufTensor(gguf, b), await readGgufTensor(gguf, a)] as const;
  return product(...values, rank, alpha ? alpha / rank : 1);
}

function expectClose(found: readonly number[], expected: readonly number[], relative = 1e-5): void {
  const size = Math.max(...expected.map(Math.abs));
  expect(found.length).toBe(expected.length);
  expect(Math.max(...found.map((x, i) => Math.abs(x - expected[i])))).toBeLessThanOrEqual(relative * size);
}

const all = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

describe.each(['llama-bpe', 'qwen2', 'qwen3'])('an adapter for %s', (name) => {
  it("changes the rows that the base's own file has at that place", async () => {
    const base = await baseOf(name);
    const adapter = adapterFor(base, { r: 3, lora_alpha: 5, target_modules: all });
    await writeLoraGguf(path, 'adapter', adapter, base);
    const folder = join(dir, name);
    await ggufToHf(fixture(name), folder);
    const [gguf, checkpoint] = [await readGguf(fixture(name)), await openCheckpoint(folder)];
    let moved = 0;
    for (const [site, layer] of base.layers) {
      if (site === 'lm_head') continue;
      const stored = await readGgufTensor(gguf, gguf.tensors.get(layer.tensor)!);
      const weight = await checkpoint.read(`${site}.weight`);
      const rowsOf = (values: ArrayLike<number>) =>
        Array.from({ length: layer.out }, (_, row) =>
          Array.from({ length: layer.in }, (_, i) => values[row * layer.in + i]),
        );
      const places = rowsOf(weight).map(String);
      const from = rowsOf(stored).map((row) => places.indexOf(String(row)));
      expect(new Set(from).size).toBe(layer.out);
      if (from.some((row, i) => row !== i)) moved++;
      const wanted = rowsOf(change(adapter, site));
      expectClose(
        await llamaCppChange(path, layer.tensor),
        from.flatMap((row) => wanted[row]),
      );
    }
    expect(moved > 0).toBe(name === 'llama-bpe');
  });

  it('comes back bit for bit', async () => {
    const base = await baseOf(name);
    const adapter = adapterFor(base, {
      r: 4,
      lora_alpha: 0.1,
      target_modules: ['q_proj', 'k_proj', 'down_proj'],
      rank_pattern: { down_proj: 2 },
      alpha_pattern: { down_proj: 0.1 },
    });
    await writeLoraGguf(path, 'adapter', adapter, base);
    const back = await readLoraGguf(path, base);
    expect(back.config).toEqual({ ...adapter.config, alpha_pattern: {} });
    expect(new Map([...back.tensors].sort())).toEqual(new Map([...adapter.tensors].sort()));
  });
});

describe('the scale', () => {
  it.each<[string, Partial<PeftLoraConfig>]>([
    ['rsLoRA', { use_rslora: true, lora_alpha: 16 }],
    ['rsLoRA of several ranks', { use_rslora: true, lora_alpha: 16, rank_pattern: { q_proj: 2, o_proj: 7 } }],
    ['alpha_pattern', { alpha_pattern: { q_proj: 3, k_proj: 0, 'layers.0.mlp.up_proj': -1.5 } }],
    ['both patterns', { rank_pattern: { v_proj: 1 }, alpha_pattern: { v_proj: 9, k_proj: 2 } }],
    ['alpha 0', { lora_alpha: 0 }],
  ])("is PEFT's under llama.cpp's rule: %s", async (_, given) => {
    const adapter = adapterFor(llama, { r: 4, lora_alpha: 8, target_modules: all, ...given });
    await writeLoraGguf(path, 'adapter', adapter, llama);
    const back = await readLoraGguf(path, llama);
    expect(back.config.use_rslora).toBe(false);
    for (const [site, layer] of llama.layers) {
      if (!all.some((t) => site.endsWith(t))) continue;
      expectClose(change(back, site), change(adapter, site));
      // v_proj's rows stay where they are, so here the file itself can be looked at.
      if (site.endsWith('v_proj'))
        expectClose(await llamaCppChange(path, layer.tensor), change(adapter, site));
    }
  });

  it('leaves the matrices of rsLoRA as they are', async () => {
    const adapter = adapterFor(llama, { r: 4, use_rslora: true, target_modules: ['v_proj'] });
    await writeLoraGguf(path, 'adapter', adapter, llama);
    expect((await readLoraGguf(path, llama)).tensors).toEqual(adapter.tensors);
  });

  it.each([['absent'], ['zero']])('is 1 where alpha is %s', async (which) => {
    const alpha: GgufField[] =
      which === 'zero' ? [{ key: 'adapter.lora.alpha', type: 'float32', value: 0 }] : [];
    await writeGguf(
      path,
      [...lora, ...alpha],
      [...pair('blk.0.attn_v.weight', 3), ...pair('blk.0.attn_q.weight', 2)],
    );
    const { config, tensors } = await readLoraGguf(path, llama);
    for (const site of adapterSites(tensors)) expect(scalingOf(config, site)).toBe(1);
    expect(adapterSites(tensors).map((site) => rankOf(config, site))).toEqual([2, 3]);
  });
});

describe('the element type', () => {
  it.each([
    ['float16', 'F16', 2 ** -11],
    ['bfloat16', 'BF16', 2 ** -8],
  ] as const)('%s', async (dtype, stored, precision) => {
    const adapter = adapterFor(llama, { target_modules: ['q_proj'] });
    await writeLoraGguf(path, 'adapter', adapter, llama, dtype);
    expect(new Set([...(await readGguf(path)).tensors.values()].map((t) => t.type))).toEqual(
      new Set([stored]),
    );
    const back = await readLoraGguf(path, llama);
    for (const [key, { data }] of adapter.tensors) {
      expectClose([...back.tensors.get(key)!.data], [...data], precision);
    }
  });

  it('is refused where a value is beyond it, and nothing is left', async () => {
    const adapter = adapterFor(llama, { target_modules: ['q_proj'] });
    adapter.tensors.get('model.layers.0.self_attn.q_proj.lora_B')!.data[3] = 1e5;
    const out = join(dir, 'beyond.gguf');
    await expect(writeLoraGguf(out, 'mine', adapter, llama, 'float16')).rejects.toThrow(
      new UserError(
        `cannot write ${out}: tensor "blk.0.attn_q.weight.lora_b": 1 of its 256 values is NaN or infinite; float16 ends at 65504, bfloat16 and float32 do not`,
      ),
    );
    await expect(readFile(out)).rejects.toThrow(/ENOENT/);
  });
});

const lora: GgufField[] = [
  { key: 'general.architecture', type: 'string', value: 'llama' },
  { key: 'general.type', type: 'string', value: 'adapter' },
  { key: 'adapter.type', type: 'string', value: 'lora' },
];
const field = (key: string, value: string): GgufField => ({ key, type: 'string', value });
const changed = (key: string, value: string) => lora.map((f) => (f.key === key ? field(key, value) : f));
const entry = (name: string, shape: number[]): GgufEntry => ({
  name,
  dtype: 'float32',
  shape,
  data: () => encodeF32(new Float32Array(shape.reduce((a, b) => a * b)).fill(1), 'float32'),
});

/** Matrices of rank r for a tensor of the fixture. */
function pair(tensor: string, r: number): GgufEntry[] {
  const layer = [...llama.layers.values()].find((l) => l.tensor === tensor)!;
  return [entry(`${tensor}.lora_a`, [r, layer.in]), entry(`${tensor}.lora_b`, [layer.out, r])];
}

describe('what is refused', () => {
  const q = 'blk.0.attn_q.weight';
  it.each<[string, () => [GgufField[], GgufEntry[]], RegExp]>([
    ['an old model', () => [[lora[0]], []], /general.type is "model", expected "adapter"/],
    [
      'a control vector',
      () => [changed('general.type', 'controlvector'), []],
      /"controlvector", expected "adapter"/,
    ],
    [
      'another kind of adapter',
      () => [changed('adapter.type', 'ia3'), []],
      /adapter.type is "ia3", expected "lora"/,
    ],
    ['aLoRA', () => [[...lora, field('adapter.alora.invocation_tokens', '')], []], /aLoRA/],
    [
      'another architecture',
      () => [changed('general.architecture', 'qwen2'), pair(q, 2)],
      /is for "qwen2", and llama-bpe is "llama"/,
    ],
    ['an empty one', () => [lora, []], /has no LoRA matrix/],
    ['half a pair', () => [lora, pair(q, 2).slice(1)], /attn_q.weight lacks its lora_a/],
    [
      'a norm',
      () => [lora, [entry('blk.0.attn_norm.weight', [8])]],
      /"blk.0.attn_norm.weight" of \[8\] is no LoRA matrix/,
    ],
    [
      'a vector',
      () => [lora, [entry(`${q}.lora_a`, [8])]],
      /"blk.0.attn_q.weight.lora_a" of \[8\] is no LoRA matrix/,
    ],
    [
      'a layer too many',
      () => [
        lora,
        [entry('blk.9.attn_q.weight.lora_a', [2, 4]), entry('blk.9.attn_q.weight.lora_b', [4, 2])],
      ],
      /blk.9.attn_q.weight is no linear layer of llama-bpe/,
    ],
    [
      'two ranks',
      () => [lora, [pair(q, 2)[0], pair(q, 3)[1]]],
      /"blk.0.attn_q.weight.lora_b" has shape \[\d+, 3\], llama-bpe makes it \[\d+, 2\]/,
    ],
    [
      'transposed matrices',
      () => [lora, pair(q, 2).map(({ name, shape }) => entry(name, [...shape].reverse()))],
      /"blk.0.attn_q.weight.lora_a" has shape/,
    ],
  ])('%s', async (_, parts, message) => {
    await writeGguf(path, ...parts());
    const error = await readLoraGguf(path, llama).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toMatch(message);
    expect(String(error)).toContain(path);
  });

  it('a model where an adapter is expected, and the other way round', async () => {
    await expect(readLoraGguf(fixture('llama-bpe'), llama)).rejects.toThrow(/expected "adapter"/);
    await writeGguf(path, lora, pair('blk.0.attn_q.weight', 2));
    await expect(ggufToHf(path, join(dir, 'none'))).rejects.toThrow(
      new UserError(`${path}: general.type is "adapter": this is no model`),
    );
  });

  it.each<[string, (a: AdapterFiles) => void, RegExp]>([
    [
      'a layer that the base has not',
      ({ tensors }) => {
        for (const part of ['lora_A', 'lora_B'] as const)
          tensors.set(adapterKey('model.layers.7.self_attn.q_proj', part), {
            shape: [8, 8],
            data: new Float32Array(64),
          });
      },
      /^mine: model.layers.7.self_attn.q_proj is no linear layer of its own in llama-bpe$/,
    ],
    [
      'a bias of B',
      ({ tensors }) => {
        tensors.set('model.layers.0.self_attn.q_proj.lora_bias', { shape: [8], data: new Float32Array(8) });
      },
      /holds the A and B of linear layers only, and this one has .*q_proj.lora_bias; train without lora_bias$/,
    ],
    [
      'a full copy of a module',
      ({ tensors }) => tensors.set('model.norm.weight', { shape: [8], data: new Float32Array(8) }),
      /this one has model.norm.weight; merge it and convert the model$/,
    ],
    [
      'a layer of another size',
      ({ tensors }) => {
        tensors.set('model.layers.0.self_attn.q_proj.lora_A', { shape: [8, 3], data: new Float32Array(24) });
      },
      /^mine: model.layers.0.self_attn.q_proj is \d+ × 3, in llama-bpe it is/,
    ],
    [
      'an alpha beyond float32',
      ({ config }) => Object.assign(config, { lora_alpha: 1e300 }),
      /^mine: its lora_alpha is beyond float32$/,
    ],
    ['DoRA', ({ config }) => Object.assign(config, { use_dora: true }), /^mine is a DoRA adapter/],
  ])('%s, when writing', async (_, spoil, message) => {
    const adapter = adapterFor(llama, { target_modules: ['q_proj'] });
    spoil(adapter);
    const error = await writeLoraGguf(path, 'mine', adapter, llama).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).toMatch(message);
  });

  it('changed and cut files throw nothing but UserError', async () => {
    const adapter = adapterFor(llama, { r: 2, target_modules: ['q_proj', 'v_proj'] });
    await writeLoraGguf(path, 'adapter', adapter, llama);
    const good = await readFile(path);
    const fuzzed = join(dir, 'fuzzed.gguf');
    const mutation = fc.record({
      at: fc.oneof(fc.nat(300), fc.nat(900), fc.nat(good.length - 8)),
      bytes: fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 8 }), fc.constant(new Uint8Array(4))),
    });
    const length = fc.oneof(
      { weight: 3, arbitrary: fc.constant(good.length) },
      { weight: 1, arbitrary: fc.nat(good.length - 1) },
    );
    const outcomes = { accepted: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { maxLength: 2 }), length, async (mutations, end) => {
        const bytes = new Uint8Array(good);
        for (const m of mutations) bytes.set(m.bytes, m.at);
        await writeFile(fuzzed, bytes.subarray(0, end));
        try {
          const { config, tensors } = await readLoraGguf(fuzzed, llama);
          for (const site of adapterSites(tensors)) expect(scalingOf(config, site)).not.toBeNaN();
          outcomes.accepted++;
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          outcomes.refused++;
        }
      }),
      { numRuns: 500 },
    );
    expect(Math.min(outcomes.accepted, outcomes.refused)).toBeGreaterThan(20);
  });
});
