import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { openCheckpoint } from '../formats/checkpoint.js';
import { encodeF32 } from '../formats/float16.js';
import { exists } from '../formats/io/node.js';
import { type AdapterFiles, readAdapter } from '../formats/peft.js';
import { rankOf, scalingOf } from '../formats/peftConfig.js';
import { adapterKey, adapterSites } from '../formats/peftNames.js';
import { writeSafetensors } from '../formats/safetensors.js';
import { loadAdapterFolder } from '../methods/files.js';
import { openModel } from '../models/base.js';
import { convert } from './convert.js';
import { type AdapterInspection, inspect } from './inspect.js';

const golden = (name: string) =>
  fileURLToPath(new URL(`../../test/golden/fixtures/${name}`, import.meta.url));
const gguf = fileURLToPath(new URL('../formats/gguf/fixtures/llama-bpe.gguf', import.meta.url));

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-convert-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const at = (name: string) => join(dir, name);
const json = async (path: string) => JSON.parse(await readFile(path, 'utf8'));

describe('models', () => {
  it('a folder in another dtype and in shards, each below the limit', async () => {
    const out = at('bf16');
    const done = await convert(golden('llama3'), out, { dtype: 'bfloat16', maxShardBytes: 20_000 });
    expect(done).toEqual({ what: 'model', format: 'hf', dtype: 'bfloat16' });
    const [before, after] = await Promise.all([openCheckpoint(golden('llama3')), openCheckpoint(out)]);
    expect([...after.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort());
    expect(new Set([...after.tensors.values()].map((t) => t.dtype))).toEqual(new Set(['BF16']));
    const sizes = new Map<string, number>();
    for (const { file, length } of after.tensors.values()) sizes.set(file, (sizes.get(file) ?? 0) + length);
    expect(sizes.size).toBeGreaterThan(1);
    expect(Math.max(...sizes.values())).toBeLessThanOrEqual(20_000);
    const config = await json(join(out, 'config.json'));
    expect(config.torch_dtype ?? config.dtype).toBe('bfloat16');
    await openModel(out);
  });

  it("a folder in one file again, each tensor's bytes kept", async () => {
    await convert(golden('llama2'), at('whole'));
    expect(await readdir(at('whole'))).toContain('model.safetensors');
    const [before, after] = await Promise.all([
      openCheckpoint(golden('llama2')),
      openCheckpoint(at('whole')),
    ]);
    for (const [name, { dtype, shape }] of before.tensors) {
      expect(after.tensors.get(name)).toMatchObject({ dtype, shape });
      expect(await after.read(name)).toEqual(await before.read(name));
    }
  });

  it('a GGUF file in shards', async () => {
    await convert(gguf, at('sharded'), { dtype: 'float16', maxShardBytes: 10_000 });
    expect(await readdir(at('sharded'))).toContain('model.safetensors.index.json');
    expect((await openModel(at('sharded'))).checkpoint.tensors.get('model.norm.weight')!.dtype).toBe('F16');
  });
});

const expectSame = (back: AdapterFiles, adapter: AdapterFiles) =>
  expect(new Map([...back.tensors].sort())).toEqual(new Map([...adapter.tensors].sort()));

describe('adapters', () => {
  it.each(['llama2', 'llama3', 'mistral', 'qwen2', 'qwen3', 'smollm2'])(
    'PEFT to GGUF and back, bit for bit (%s)',
    async (name) => {
      const [source, base] = [join(golden(name), 'adapter'), golden(name)];
      const [file, back] = [at(`${name}.gguf`), at(`${name}-back`)];
      expect(await convert(source, file, { base })).toEqual({ what: 'adapter', format: 'gguf' });
      expect(await convert(file, back, { base })).toEqual({ what: 'adapter', format: 'peft' });
      const [before, after] = [await readAdapter(source), await readAdapter(back)];
      expectSame(after, before);
      expect(after.config).toMatchObject({ r: 4, lora_alpha: 8, base_model_name_or_path: base });
      await loadAdapterFolder(back, await openModel(base));
    },
  );

  it('rsLoRA to GGUF and back, with the same scale', async () => {
    const base = golden('llama-linear-rope');
    await convert(join(base, 'adapter'), at('rs.gguf'), { base });
    await convert(at('rs.gguf'), at('rs-back'), { base });
    const [before, after] = [await readAdapter(join(base, 'adapter')), await readAdapter(at('rs-back'))];
    expectSame(after, before);
    for (const site of adapterSites(before.tensors)) {
      expect(scalingOf(after.config, site)).toBeCloseTo(scalingOf(before.config, site), 12);
    }
  });

  it('mlx-lm to PEFT and to GGUF', async () => {
    const base = golden('qwen2');
    const { config, tensors } = await readAdapter(join(base, 'adapter'));
    await mlxFolder(at('mlx'), { config, tensors });
    expect(await convert(at('mlx'), at('from-mlx'))).toEqual({ what: 'adapter', format: 'peft' });
    const back = await readAdapter(at('from-mlx'));
    expectSame(back, { config, tensors });
    for (const site of adapterSites(tensors))
      expect(scalingOf(back.config, site)).toBe(scalingOf(config, site));
    const seen = (await inspect(at('mlx'))) as AdapterInspection;
    const { modules } = (await inspect(at('from-mlx'))) as AdapterInspection;
    expect(seen).toMatchObject({ kind: 'adapter', method: 'LoRA', base: 'a/hub-name', modules });
    await convert(at('mlx'), at('mlx.gguf'), { to: 'gguf', base });
    await convert(at('mlx.gguf'), at('mlx-back'), { base });
    expectSame(await readAdapter(at('mlx-back')), { config, tensors });
  });
});

/** The adapter as mlx-lm would have written it. */
async function mlxFolder(folder: string, { config, tensors }: AdapterFiles): Promise<void> {
  await mkdir(folder);
  const sites = adapterSites(tensors);
  const rank = rankOf(config, sites[0]);
  const parameters = { rank, scale: scalingOf(config, sites[0]), dropout: 0 };
  const mlx = { fine_tune_type: 'lora', lora_parameters: parameters, num_layers: -1, model: 'a/hub-name' };
  await writeFile(join(folder, 'adapter_config.json'), JSON.stringify(mlx));
  const entries = sites.flatMap((site) =>
    (['lora_A', 'lora_B'] as const).map((part) => {
      const { shape, data } = tensors.get(adapterKey(site, part))!;
      const [rows, columns] = shape;
      const turned = data.map((_, i) => data[(i % rows) * columns + Math.floor(i / rows)]);
      return {
        name: `${site}.${part.toLowerCase()}`,
        dtype: 'F32' as const,
        shape: [columns, rows],
        data: () => encodeF32(turned, 'float32'),
      };
    }),
  );
  await writeSafetensors(join(folder, 'adapters.safetensors'), entries);
}

describe('refusals', () => {
  const adapter = join(golden('llama3'), 'adapter');
  beforeAll(async () => {
    await mkdir(at('notes'));
    await writeFile(join(at('notes'), 'note.txt'), 'mine');
    await convert(adapter, at('taken.gguf'), { base: golden('llama3') });
  });

  it.each<[string, () => Parameters<typeof convert>, RegExp]>([
    ['nothing there', () => [at('none'), at('x')], /there is nothing at .*none$/],
    ['a folder of something else', () => [at('notes'), at('x')], /is neither a model .* nor an adapter/],
    [
      'a model as an adapter',
      () => [golden('llama3'), at('x'), { to: 'peft' }],
      /llama3 is a model folder, which can become hf or gguf, not peft$/,
    ],
    [
      'a PEFT adapter as PEFT',
      () => [adapter, at('x'), { to: 'peft' }],
      /can become gguf or lora, not peft$/,
    ],
    ['an adapter whose base is not at hand', () => [adapter, at('x')], /which model is this adapter for\?/],
    ['a GGUF adapter without a base', () => [at('taken.gguf'), at('x')], /which model is this adapter for\?/],
    [
      'a base that is an adapter',
      () => [adapter, at('x'), { base: at('taken.gguf') }],
      /taken.gguf: general.type is "adapter": this is no model$/,
    ],
    [
      'a base that is not there',
      () => [adapter, at('x'), { base: at('none') }],
      /there is no model at .*none/,
    ],
    [
      'a base of another size',
      () => [adapter, at('x'), { base: golden('smollm2') }],
      /model\.layers\..* is .* × .*smollm2 it is/,
    ],
    [
      'a PEFT adapter in half precision',
      () => [at('taken.gguf'), at('x'), { base: golden('llama3'), dtype: 'float16' }],
      /written in float32 only/,
    ],
    [
      'an output that exists',
      () => [adapter, at('taken.gguf'), { base: golden('llama3') }],
      /exists already/,
    ],
    [
      'a foreign file to overwrite',
      () => [adapter, join(at('notes'), 'note.txt'), { base: golden('llama3'), overwrite: true }],
      /note.txt is no GGUF file and is not overwritten$/,
    ],
    [
      'a foreign folder to overwrite',
      () => [at('taken.gguf'), at('notes'), { base: golden('llama3'), overwrite: true }],
      /notes is no adapter folder and is not overwritten$/,
    ],
    [
      'its own input',
      () => [at('taken.gguf'), at('taken.gguf'), { to: 'peft', base: golden('llama3'), overwrite: true }],
      /taken.gguf is a file, not a folder$/,
    ],
  ])('%s', async (_, args, message) => {
    const error = await convert(...args()).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).toMatch(message);
    expect(await exists(at('x'))).toBe(false);
    expect(await readFile(join(at('notes'), 'note.txt'), 'utf8')).toBe('mine');
  });

  it('never overwrites the model that it reads', async () => {
    await cp(golden('llama3'), at('model'), { recursive: true });
    await expect(convert(at('model'), at('model'), { overwrite: true })).rejects.toThrow(
      /model is read from/,
    );
    await cp(gguf, at('base.gguf'));
    await expect(
      convert(at('taken.gguf'), at('taken.gguf'), { base: at('base.gguf'), overwrite: true }),
    ).rejects.toThrow(UserError);
    await expect(
      convert(adapter, at('base.gguf'), { base: at('base.gguf'), overwrite: true }),
    ).rejects.toThrow(/base.gguf is read from and is not overwritten/);
  });
});

it('tells of a way for what is no plain LoRA', async () => {
  const golden = (name: string) => fileURLToPath(new URL(`../../test/golden/${name}`, import.meta.url));
  const dora = golden('fixtures-methods/smollm2-dora/adapter');
  const converted = convert(dora, `${dora}.gguf`, { to: 'gguf', base: golden('fixtures/smollm2') });
  await expect(converted).rejects.toThrow(
    /is a DoRA adapter, and llama\.cpp reads only LoRA; merged \(lowrank merge\)/,
  );
});
