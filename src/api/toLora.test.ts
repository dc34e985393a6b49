import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { Rng } from '../base/rng.js';
import { writeFolderAtomic } from '../formats/io/write.js';
import { readAdapter } from '../formats/peft.js';
import { type PeftLoraConfig, rankOf } from '../formats/peftConfig.js';
import { writeRecipe } from '../formats/quant/recipe.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { type Adapter, createAdapter } from '../methods/adapter.js';
import { writeAdapterFolder } from '../methods/files.js';
import { methodNamed } from '../methods/index.js';
import { mergedTensors } from '../methods/merge.js';
import { type BaseModel, openModel } from '../models/base.js';
import { readAdapterFor } from './adapterFile.js';
import { convert } from './convert.js';
import { openBase, resolveBase } from './quantizedBase.js';

const golden = (name: string) =>
  fileURLToPath(new URL(`../../test/golden/fixtures/${name}`, import.meta.url));

const runtime = new NodeRuntime();
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-to-lora-'));
  process.env.LOWRANK_CACHE = join(dir, 'cache');
});
afterAll(async () => {
  delete process.env.LOWRANK_CACHE;
  await runtime.close();
  await rm(dir, { recursive: true, force: true });
});

/** An adapter in the middle of its training, every value moved at random, saved. */
async function saved(base: BaseModel, name: string, options: object, as = name): Promise<string> {
  const method = methodNamed(name);
  const adapter = await createAdapter(method, method.parse('c', options), base, 5);
  for (const [tensor, { data }] of adapter.values) {
    const rng = new Rng(9, tensor);
    for (let i = 0; i < data.length; i++) data[i] += 0.1 * rng.normal();
  }
  const folder = join(dir, as);
  await writeFolderAtomic(folder, (temporary) => writeAdapterFolder(temporary, adapter, base.folder));
  return folder;
}

/** All tensors of the merged model that differ from the base's. */
async function changed(base: BaseModel, adapter: Adapter): Promise<Map<string, Float32Array>> {
  const found = new Map<string, Float32Array>();
  for (const tensor of mergedTensors(runtime, base, adapter).tensors) {
    if (tensor.changed) found.set(tensor.name, await tensor.values());
  }
  return found;
}

/** ‖a − b‖² / ‖b − of‖² by tensor, for what merging two adapters makes of a base. */
async function lostBy(base: BaseModel, folder: string, lora: string): Promise<Map<string, number>> {
  const [theirs, ours] = [await readAdapterFor(folder, base), await readAdapterFor(lora, base)];
  expect(ours.method.name).toBe('lora');
  const [wanted, made] = [await changed(base, theirs), await changed(base, ours)];
  expect([...made.keys()].sort()).toEqual([...wanted.keys()].sort());
  const lost = new Map<string, number>();
  for (const [name, values] of wanted) {
    const parameter = base.parameters.has(name) ? name : 'model.embed_tokens.weight';
    const before = await base.checkpoint.read(parameter);
    const square = (of: (i: number) => number) => values.reduce((sum, _, i) => sum + of(i) ** 2, 0);
    const left = square((i) => values[i] - made.get(name)![i]);
    lost.set(name, left / square((i) => values[i] - before[i]));
  }
  return lost;
}

const all = { targetModules: 'all-linear' };

describe('a change of low rank becomes a LoRA of that rank, the same', () => {
  it.each([
    ['miss', { ...all, r: 5 }, 5],
    ['miss', { ...all, r: 6, miniR: 8, initWeights: 'mini' }, 6],
    ['vera', { ...all, r: 12 }, 12],
    ['adalora', { ...all, initR: 3, targetR: 2 }, 3],
  ] as const)('%s %j', async (name, options, r) => {
    const base = await openModel(golden('qwen2'));
    const folder = await saved(base, name, options, `${name}-${r}`);
    const output = `${folder}-lora`;
    const { what, format, lora } = await convert(folder, output, { to: 'lora' });
    expect({ what, format }).toEqual({ what: 'adapter', format: 'lora' });
    expect(lora!.r).toBe(r);
    expect(lora!.kept).toBeCloseTo(1, 9);
    expect(lora!.layers).toHaveLength(14);
    for (const [tensor, lost] of await lostBy(base, folder, output)) expect(lost, tensor).toBeLessThan(1e-9);
    const { config } = await readAdapter(output);
    expect(config).toMatchObject({ peft_type: 'LORA', r, lora_alpha: r, use_rslora: false });
    expect(config.base_model_name_or_path).toBe(base.folder);
  });
});

describe('of another change what is told is kept', () => {
  const cases = [
    ['dora', { ...all, r: 3 }, 'qwen2'],
    ['hira', { ...all, r: 3 }, 'qwen2'],
    ['hira', { ...all, r: 2 }, 'gpt2'],
    ['miss', { ...all, r: 4, initWeights: 'bat' }, 'mistral'],
    ['hira', { r: 2, targetModules: ['embed_tokens', 'lm_head', 'v_proj'] }, 'mistral'],
    ['dora', { r: 2, targetModules: ['embed_tokens', 'v_proj'] }, 'mistral'],
  ] as const;
  it.each(cases)('%s %j on %s', async (name, options, model) => {
    const base = await openModel(golden(model));
    const folder = await saved(base, name, options, `${name}-${model}-${JSON.stringify(options).length}`);
    for (const given of [{ energy: 0.9 }, { r: 4 }, { r: 3, energy: 0.99 }, { energy: 1 }]) {
      const output = `${folder}-${JSON.stringify(given).replace(/\W+/g, '-')}`;
      const { lora } = await convert(folder, output, { to: 'lora', ...given });
      const lost = await lostBy(base, folder, output);
      const config = (await readAdapter(output)).config as PeftLoraConfig;
      expect(lora!.layers).toHaveLength(lost.size);
      for (const { site, r, captured } of lora!.layers) {
        // A float16 base is changed in float16, and so is what is compared.
        expect(Math.abs(lost.get(`${site}.weight`)! - (1 - captured)), site).toBeLessThan(1e-3);
        expect(rankOf(config, site)).toBe(r);
        if (given.r !== undefined) expect(r).toBeLessThanOrEqual(given.r);
        else expect(captured).toBeGreaterThanOrEqual(given.energy! - 1e-9);
      }
      expect(lora!.r).toBe(Math.max(...lora!.layers.map(({ r }) => r)));
      expect(config.fan_in_fan_out).toBe(model === 'gpt2');
      if ('r' in given) continue;
      const total = lora!.layers.reduce((sum, { norm }) => sum + norm ** 2, 0);
      const held = lora!.layers.reduce((sum, { norm, captured }) => sum + norm ** 2 * captured, 0);
      expect(lora!.kept).toBeCloseTo(held / total, 12);
    }
  });

  it('a rank is as low as the energy allows', async () => {
    const base = await openModel(golden('qwen2'));
    const folder = await saved(base, 'hira', { ...all, r: 3 }, 'lowest');
    const { lora } = await convert(folder, `${folder}-a`, { to: 'lora', energy: 0.8 });
    for (const { site, r } of lora!.layers) {
      if (r === 1) continue;
      const { lora: lower } = await convert(folder, `${folder}-b`, { to: 'lora', r: r - 1, overwrite: true });
      expect(lower!.layers.find((layer) => layer.site === site)!.captured).toBeLessThan(0.8);
      break;
    }
  });
});

it('what trains beside the matrices stays as it is', async () => {
  const base = await openModel(golden('qwen2'));
  const options = { r: 4, bias: 'all', modulesToSave: ['norm'], targetModules: ['k_proj'] };
  const folder = await saved(base, 'miss', options, 'beside');
  await convert(folder, `${folder}-lora`, { to: 'lora' });
  for (const [tensor, lost] of await lostBy(base, folder, `${folder}-lora`))
    expect(lost, tensor).toBeLessThan(1e-9);
  const [before, after] = [await readAdapter(folder), await readAdapter(`${folder}-lora`)];
  expect(after.config).toMatchObject({ bias: 'all', modules_to_save: ['norm'] });
  for (const [key, tensor] of before.tensors) {
    if (!key.endsWith('.miss_block')) expect(after.tensors.get(key), key).toEqual(tensor);
  }
});

it('the change of a method that looks at the base is that of the base it was trained over', async () => {
  const plain = await openModel(golden('qwen2'));
  const quantized = await openBase(await resolveBase(golden('qwen2'), { quantize: 'nf4' }));
  const folder = await saved(plain, 'hira', { ...all, r: 3 }, 'over-nf4');
  await writeRecipe(folder, { format: 'nf4' });
  await convert(folder, `${folder}-lora`, { to: 'lora', energy: 1 });
  const worst = async (base: BaseModel) =>
    Math.max(...(await lostBy(base, folder, `${folder}-lora`)).values());
  expect(await worst(quantized)).toBeLessThan(1e-6);
  expect(await worst(plain)).toBeGreaterThan(1e-4);
});

describe('what cannot become a LoRA is refused', () => {
  const refusal = async (path: string, options: object, message: string | RegExp) => {
    const work = convert(path, join(dir, 'refused'), { to: 'lora', ...options });
    await expect(work).rejects.toThrow(UserError);
    await expect(work).rejects.toThrow(message);
  };
  it('a LoRA, a whole model, what is in no matrix', async () => {
    const base = await openModel(golden('qwen2'));
    await refusal(
      join(golden('qwen2'), 'adapter'),
      { base: golden('qwen2') },
      /is a LoRA adapter already; lowrank resize/,
    );
    await refusal(golden('qwen2'), {}, 'is a whole model: lowrank extract');
    const prompt = await saved(base, 'prompt', { numVirtualTokens: 4 });
    await refusal(
      prompt,
      {},
      'what method prompt trains is in no matrix of the model, so no LoRA can do the same',
    );
    const houlsby = await saved(base, 'houlsby', { bottleneckSize: 4 });
    await refusal(houlsby, {}, 'what method houlsby trains is in no matrix');
  });
  it('options of another conversion, another element type, another base', async () => {
    const base = await openModel(golden('qwen2'));
    const folder = await saved(base, 'miss', { ...all, r: 4 }, 'refusals');
    await refusal(folder, { to: 'gguf', r: 4 }, 'the option "r" is for conversions to lora');
    await refusal(folder, { to: 'gguf', energy: 0.5 }, 'the option "energy" is for conversions to lora');
    await refusal(folder, { dtype: 'float16' }, 'a PEFT adapter is written in float32 only');
    await refusal(folder, { base: golden('llama2') }, 'was made for another base');
    await refusal(folder, { energy: 1.5 }, 'energy');
    await refusal(folder, { r: 0 }, 'convert options');
  });
});
