import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { convert } from '../api/convert.js';
import { matrix, multiply } from '../base/linalg/matrix.js';
import { type AdapterFiles, readAdapter } from '../formats/peft.js';
import { type PeftLoraConfig, scalingOf } from '../formats/peftConfig.js';
import { adapterKey, adapterSites } from '../formats/peftNames.js';
import { loadAdapterFolder } from '../methods/files.js';
import { openModel } from '../models/base.js';
import { combine } from './combine.js';
import { runProgram } from './command.js';

const golden = (name: string) => fileURLToPath(new URL(`../../test/golden/${name}`, import.meta.url));
const [a, b] = ['a', 'b'].map((name) => golden(`fixtures-combine/${name}`));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-combine-'));
});
afterEach(() => vi.restoreAllMocks());
afterAll(() => rm(folder, { recursive: true }));

/** Runs the command and returns its exit code with what it printed. */
async function run(...argv: string[]) {
  const printed = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    vi.spyOn(process[stream], 'write').mockImplementation((text) => {
      printed[stream] += text;
      return true;
    });
  }
  return { code: await runProgram([combine], '0', ['combine', ...argv]), ...printed };
}

it('writes an adapter that loads on the base', async () => {
  const output = join(folder, 'both');
  const done = await run(a, b, '--weights', '-0.7,0.3', '--combination', 'cat', '--output', output, '--json');
  expect(done.code).toBe(0);
  expect(JSON.parse(done.stdout)).toMatchObject({ kind: 'saved', what: 'adapter', folder: output, r: 8 });
  const { config } = await readAdapter(output);
  expect(config).toMatchObject({ r: 8, lora_alpha: 8, use_rslora: false, alpha_pattern: {} });
  expect(config.base_model_name_or_path).toBe('fixtures/smollm2');
  await loadAdapterFolder(output, await openModel(golden('fixtures/smollm2')));
  expect(JSON.parse(await readFile(join(output, 'adapter_config.json'), 'utf8')).peft_type).toBe('LORA');
});

/** s·B·A of a site. */
function productOf({ config, tensors }: AdapterFiles, site: string): Float64Array {
  const [a, b] = (['lora_A', 'lora_B'] as const).map((part) => {
    const { shape, data } = tensors.get(adapterKey(site, part))!;
    return matrix(shape[0], shape[1], data);
  });
  return multiply(b, a).data.map((x) => x * scalingOf(config as PeftLoraConfig, site));
}

it('reads GGUF adapters as it reads folders, once their base is named', async () => {
  const base = golden('fixtures/smollm2');
  const gguf = join(folder, 'a.gguf');
  await convert(a, gguf, { to: 'gguf', base });
  const to = (name: string) => ['--combination', 'cat', '--output', join(folder, name)];
  expect((await run(gguf, b, ...to('unnamed'))).stderr).toMatch(/a\.gguf: which model .* by --base/);
  expect((await run(gguf, b, '--base', base, ...to('mixed'))).code).toBe(0);
  expect((await run(a, b, ...to('folders'))).code).toBe(0);
  const [mixed, folders] = await Promise.all(['mixed', 'folders'].map((at) => readAdapter(join(folder, at))));
  expect(mixed.config).toEqual({ ...folders.config, base_model_name_or_path: base });
  const sites = adapterSites(folders.tensors);
  expect(adapterSites(mixed.tensors).sort()).toEqual(sites.sort());
  for (const site of sites) {
    const [one, other] = [productOf(mixed, site), productOf(folders, site)];
    expect(
      one.every((x, i) => Math.abs(x - other[i]) < 1e-6),
      site,
    ).toBe(true);
  }
});

it.each([
  [['--weights', '1'], 1, /there are 2 adapters and 1 weight$/m],
  [['--weights', '1,x'], 2, /--weights <x,...>.*'1,x' is invalid. expected numbers, as 0.7,0.3/],
  [['--combination', 'ties'], 1, /combination ties needs --density, /],
  [['--combination', 'mean'], 2, /combination/],
  [['--density', '0', '--combination', 'ties'], 2, /density/],
])('refuses %j', async (options, code, message) => {
  const done = await run(a, b, '--output', join(folder, 'never'), ...options);
  expect(done.stderr).toMatch(message);
  expect(done.code).toBe(code);
});

it('refuses an adapter that is no LoRA by its kind', async () => {
  const prefix = golden('fixtures-prefix/qwen2-prefix/adapter');
  const done = await run(a, prefix, '--output', join(folder, 'never'));
  expect(done.stderr).toMatch(/adapter is a PREFIX_TUNING adapter, and only plain LoRA can be combined/);
});

it('needs adapters, and overwrites none', async () => {
  expect((await run('--output', join(folder, 'x'))).code).toBe(2);
  const input = await run(a, b, '--output', a, '--overwrite');
  expect(input.code).toBe(1);
  expect((await run(a, b, '--output', folder)).code).toBe(1);
});
