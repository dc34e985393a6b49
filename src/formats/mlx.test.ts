import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { encodeF32 } from './float16.js';
import { isMlxAdapter, readMlxAdapter } from './mlx.js';
import { scalingOf } from './peftConfig.js';
import { writeSafetensors } from './safetensors.js';

let dir: string;
let folder: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-mlx-'));
  folder = join(dir, 'adapter');
  await mkdir(folder);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** As mlx_lm.lora writes it: the run's arguments around what matters. */
const config = {
  adapter_path: 'adapters',
  batch_size: 4,
  fine_tune_type: 'lora',
  lora_parameters: { rank: 2, dropout: 0.05, scale: 20.0, keys: ['self_attn.q_proj'] },
  model: 'mlx-community/SmolLM2-135M-Instruct',
  num_layers: 2,
  resume_adapter_file: null,
};

type Tensors = Record<string, [shape: number[], values: number[]]>;

/** q_proj of layers 2 and 3: 3 inputs, 4 outputs, rank 2. */
const tensors: Tensors = Object.fromEntries(
  [2, 3].flatMap((layer) => [
    [
      `model.layers.${layer}.self_attn.q_proj.lora_a`,
      [
        [3, 2],
        [1, 2, 3, 4, 5, 6],
      ],
    ],
    [
      `model.layers.${layer}.self_attn.q_proj.lora_b`,
      [
        [2, 4],
        [1, 2, 3, 4, 5, 6, 7, layer],
      ],
    ],
  ]),
);

async function write(json: object = config, weights: Tensors = tensors): Promise<void> {
  await writeFile(join(folder, 'adapter_config.json'), JSON.stringify(json));
  const entries = Object.entries(weights).map(([name, [shape, values]]) => ({
    name,
    dtype: 'F32' as const,
    shape,
    data: () => encodeF32(Float32Array.from(values), 'float32'),
  }));
  await writeSafetensors(join(folder, 'adapters.safetensors'), entries);
}

describe('readMlxAdapter', () => {
  it('turns the matrices over and the scale into alpha', async () => {
    await write();
    expect(await isMlxAdapter(folder)).toBe(true);
    expect(await isMlxAdapter(dir)).toBe(false);
    const adapter = await readMlxAdapter(folder);
    expect(adapter.config).toMatchObject({
      r: 2,
      lora_alpha: 40,
      lora_dropout: 0.05,
      target_modules: ['self_attn.q_proj'],
      layers_to_transform: [2, 3],
      base_model_name_or_path: 'mlx-community/SmolLM2-135M-Instruct',
    });
    expect(scalingOf(adapter.config, 'model.layers.2.self_attn.q_proj')).toBe(20);
    expect(Object.fromEntries(adapter.tensors)).toEqual(
      Object.fromEntries(
        [2, 3].flatMap((layer) => [
          [
            `model.layers.${layer}.self_attn.q_proj.lora_A`,
            { shape: [2, 3], data: Float32Array.of(1, 3, 5, 2, 4, 6) },
          ],
          [
            `model.layers.${layer}.self_attn.q_proj.lora_B`,
            { shape: [4, 2], data: Float32Array.of(1, 5, 2, 6, 3, 7, 4, layer) },
          ],
        ]),
      ),
    );
  });

  it("names the targets by the base's layers where those are known", async () => {
    await write();
    const q = (layer: number) => `model.layers.${layer}.self_attn.q_proj`;
    const whole = await readMlxAdapter(folder, [q(2), q(3), 'lm_head']);
    expect(whole.config).toMatchObject({ target_modules: ['q_proj'], layers_to_transform: null });
    const part = await readMlxAdapter(folder, [q(1), q(2), q(3)]);
    expect(part.config).toMatchObject({ target_modules: ['self_attn.q_proj'], layers_to_transform: [2, 3] });
  });

  it('names every layer where they have no order', async () => {
    const irregular = { ...tensors, 'lm_head.lora_a': tensors['model.layers.2.self_attn.q_proj.lora_a'] };
    await write(config, {
      ...irregular,
      'lm_head.lora_b': tensors['model.layers.2.self_attn.q_proj.lora_b'],
    });
    const adapter = await readMlxAdapter(folder);
    expect(adapter.config).toMatchObject({
      target_modules: expect.arrayContaining(['lm_head', 'model.layers.2.self_attn.q_proj']),
      layers_to_transform: null,
    });
  });

  const lora = (change: object) => ({ ...config, lora_parameters: { ...config.lora_parameters, ...change } });
  const q = 'model.layers.2.self_attn.q_proj';
  const { [`${q}.lora_a`]: matrix, ...withoutA } = tensors;
  it.each<[string, object, Tensors, RegExp]>([
    [
      'DoRA',
      { ...config, fine_tune_type: 'dora' },
      tensors,
      /key "fine_tune_type": "dora" is not implemented/,
    ],
    ['no rank', lora({ rank: undefined }), tensors, /key "lora_parameters.rank": expected number/],
    ['a scale that is text', lora({ scale: '20' }), tensors, /key "lora_parameters.scale": expected number/],
    [
      'an alpha that versions read in two ways',
      lora({ alpha: 16 }),
      tensors,
      /"lora_parameters.alpha".*disagree/,
    ],
    ['another rank', lora({ rank: 3 }), tensors, /lora_a" has shape \[3, 2\], expected \[in, 3\]/],
    ['nothing', config, {}, /has no LoRA matrix/],
    ['half a pair', config, withoutA, /model.layers.2.self_attn.q_proj lacks its lora_a/],
    [
      'a whole weight',
      config,
      { ...tensors, 'model.norm.weight': [[1], [1]] },
      /"model.norm.weight" is no LoRA matrix/,
    ],
    ['experts', config, { ...tensors, [`${q}.lora_a`]: [[1, 3, 2], matrix[1]] }, /has shape \[1, 3, 2\]/],
    ['an embedding', config, { 'model.embed_tokens.lora_a': [[1], [1]] }, /adapts an embedding/],
  ])('refuses %s', async (_, json, weights, message) => {
    await write(json, weights);
    const error = await readMlxAdapter(folder).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toMatch(message);
    expect(String(error)).toContain(folder);
  });

  it('takes an alpha that cannot matter', async () => {
    await write(lora({ alpha: 2 }));
    expect((await readMlxAdapter(folder)).config).toMatchObject({ lora_alpha: 40 });
  });

  it('throws nothing but UserError for changed and cut files', async () => {
    await write();
    const names = ['adapter_config.json', 'adapters.safetensors'];
    const good = await Promise.all(names.map((name) => readFile(join(folder, name))));
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.nat(1),
        fc.nat(10_000),
        fc.uint8Array({ maxLength: 4 }),
        fc.boolean(),
        async (which, at, bytes, cut) => {
          const changed = new Uint8Array(good[which]);
          changed.set(bytes.subarray(0, changed.length - (at % changed.length)), at % changed.length);
          const end = cut ? at % changed.length : changed.length;
          await writeFile(join(folder, names[which]), changed.subarray(0, end));
          try {
            await readMlxAdapter(folder);
          } catch (error) {
            if (!(error instanceof UserError)) throw error;
            refused++;
          } finally {
            await writeFile(join(folder, names[which]), good[which]);
          }
        },
      ),
      { numRuns: 300 },
    );
    expect(refused).toBeGreaterThan(50);
  });
});

it('says which checkpoints there are where the training has not ended', async () => {
  const unfinished = join(dir, 'unfinished');
  await write();
  await mkdir(unfinished);
  await cp(join(folder, 'adapter_config.json'), join(unfinished, 'adapter_config.json'));
  expect(await isMlxAdapter(unfinished)).toBe(false);
  await cp(join(folder, 'adapters.safetensors'), join(unfinished, '0000100_adapters.safetensors'));
  expect(await isMlxAdapter(unfinished)).toBe(true);
  await expect(readMlxAdapter(unfinished)).rejects.toThrow(
    `${unfinished} has no adapters.safetensors, only the checkpoint 0000100_adapters.safetensors of a training by mlx-lm: copy the one that you want to adapters.safetensors`,
  );
  await cp(join(folder, 'adapters.safetensors'), join(unfinished, '0000200_adapters.safetensors'));
  await expect(readMlxAdapter(unfinished)).rejects.toThrow(
    'only checkpoints, the last of them 0000200_adapters.safetensors of',
  );
});
