import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readAdapter } from '../formats/peft.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { loadAdapterFolder } from '../methods/files.js';
import { writeMergedModel } from '../methods/merge.js';
import { openModel } from '../models/base.js';
import { extract, resize, summary } from './extract.js';
import { Terminal } from './terminal.js';

const model = fileURLToPath(new URL('../../test/golden/fixtures/llama3', import.meta.url));
const adapter = join(model, 'adapter');

describe('lowrank resize and extract', () => {
  let dir: string;
  let said: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'lowrank-cli-extract-'));
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

  it('lowers ranks and tells what is left', async () => {
    const output = join(dir, 'small');
    expect(await resize.run({ adapter, output, r: 1 }, new Terminal(false))).toBe(0);
    expect(said).toMatch(
      /^module +layers +r +energy +lowest\nmodel\.layers\.\*\..* {2}1 +[\d.]+% +[\d.]+%\n/,
    );
    expect(said).toContain(`adapter   ${output} (PEFT's format)\n`);
    expect((await readAdapter(output)).config.r).toBe(1);
    await expect(resize.run({ adapter, output, r: 1 }, new Terminal(false))).rejects.toThrow(
      'exists already',
    );
  });

  it('extracts what was merged', async () => {
    const [tuned, output] = [join(dir, 'tuned'), join(dir, 'lora')];
    const runtime = new NodeRuntime();
    const base = await openModel(model);
    await writeMergedModel(tuned, runtime, base, await loadAdapterFolder(adapter, base), {
      dtype: 'float32',
    });
    await runtime.close();
    expect(await extract.run({ base: model, tuned, output, r: 8 }, new Terminal(true))).toBe(0);
    const events = said
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const { tensors } = await readAdapter(adapter);
    expect(events.at(-1)).toEqual({ kind: 'saved', what: 'adapter', folder: output, left: [] });
    expect(events.filter(({ kind }) => kind === 'layer')).toHaveLength(tensors.size / 2);
    expect((await readAdapter(output)).config.base_model_name_or_path).toBe(model);
  });

  it('a row of the table tells of layers that differ only in their number', () => {
    const layer = { out: 4, in: 4, norm: 1, done: 1, of: 3 };
    expect(
      summary([
        { ...layer, site: 'model.layers.0.q_proj', r: 2, captured: 0.5 },
        { ...layer, site: 'model.layers.1.q_proj', r: 4, captured: 1 },
        { ...layer, site: 'lm_head', r: 3, captured: 1, norm: 0 },
      ]),
    ).toEqual([
      ['module', 'layers', 'r', 'energy', 'lowest'],
      ['model.layers.*.q_proj', 2, '2-4', '75.0%', '50.0%'],
      ['lm_head', 1, '3', '100%', '100%'],
    ]);
  });
});
