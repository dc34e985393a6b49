import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { UsageError } from './command.js';
import { convert } from './convert.js';
import { bytesOf } from './options.js';
import { Terminal } from './terminal.js';

describe('bytesOf', () => {
  it.each([
    ['2GB', 2e9],
    ['500mb', 5e8],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['10K', 1e4],
    ['123', 123],
  ])('%s', (text, bytes) => expect(bytesOf(text)).toBe(bytes));

  it.each(['', '0', '-1GB', '5TB', 'GB', '1e9', '0.1', '99999999999999999999'])('refuses %j', (text) => {
    expect(() => bytesOf(text)).toThrow(UsageError);
  });
});

describe('lowrank convert', () => {
  const model = fileURLToPath(new URL('../../test/golden/fixtures/llama3', import.meta.url));
  let dir: string;
  let said: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'lowrank-cli-convert-'));
    said = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      said += text;
      return true;
    });
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await rm(dir, { recursive: true });
  });

  it('writes an adapter and tells how to use it', async () => {
    const output = join(dir, 'a.gguf');
    expect(
      await convert.run({ path: join(model, 'adapter'), output, base: model }, new Terminal(false)),
    ).toBe(0);
    expect(said).toBe(`converted into ${output}\nto use it: llama-cli --model model.gguf --lora ${output}\n`);
    expect((await readFile(output, 'latin1')).slice(0, 4)).toBe('GGUF');
  });

  it('makes a LoRA of another method, and tells what it holds of it', async () => {
    const golden = (name: string) => fileURLToPath(new URL(`../../test/golden/${name}`, import.meta.url));
    const given = {
      path: golden('fixtures-methods/qwen2-hira/adapter'),
      base: golden('fixtures/qwen2'),
      to: 'lora',
    };
    const output = join(dir, 'lora');
    expect(await convert.run({ ...given, output, r: 2 }, new Terminal(false))).toBe(0);
    expect(said).toMatch(
      /^module +layers +r +energy +lowest\nmodel\.layers\.\*\..* {2}2 +[\d.]+% +[\d.]+%\n/,
    );
    expect(said).toMatch(
      /\nthe LoRA, of rank 2 at most, holds [\d.]+% of the change's energy; [\d.]+% is lost, a larger --r or --energy keeps more\n/,
    );
    said = '';
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const whole = { ...given, output, energy: 1, overwrite: true };
    expect(await convert.run(whole, new Terminal(true))).toBe(0);
    const events = said
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events.filter(({ kind }) => kind === 'layer')).toHaveLength(14);
    expect(events.at(-1)).toMatchObject({
      kind: 'saved',
      what: 'adapter',
      folder: output,
      kept: expect.closeTo(1, 9),
    });
  });

  it('writes a model in shards, and with --json what it wrote', async () => {
    const folder = join(dir, 'model');
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const given = { path: model, output: folder, maxShardSize: '20KB', dtype: 'float16', json: true };
    expect(await convert.run(given, new Terminal(true))).toBe(0);
    expect(JSON.parse(said)).toEqual({ kind: 'saved', what: 'model', folder });
    const index = JSON.parse(await readFile(join(folder, 'model.safetensors.index.json'), 'utf8'));
    expect(new Set(Object.values(index.weight_map)).size).toBe(6);
  });
});
