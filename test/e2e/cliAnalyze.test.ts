import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Analysis } from '../../src/api/analyze.js';
import { jsonLines, makeWorkspace, readJsonFile, run, training } from './cliSupport.js';

describe('lowrank analyze', () => {
  let root: string;
  beforeAll(async () => {
    root = await makeWorkspace();
    for (const [output, r, seed] of [
      ['four', '4', '0'],
      ['two', '2', '1'],
    ]) {
      const more = [
        '--output',
        output,
        '--r',
        r,
        '--seed',
        seed,
        '--max-steps',
        '3',
        '--target-modules',
        'q_proj,v_proj',
      ];
      const { code, stderr, stdout } = await run(root, [...training, ...more]);
      expect([code, stderr]).toEqual([0, '']);
      expect(stdout).toMatch(/^verdict {3}\d+% of the change is in [qv]_proj/m);
    }
  });
  afterAll(() => rm(root, { recursive: true }));

  it('a training run ends with the verdict of its adapter, and run.json has it', async () => {
    const { result } = (await readJsonFile(root, 'four', 'run.json')) as {
      result: { verdict: { kind: string }[] };
    };
    expect(result.verdict.map(({ kind }) => kind)).toContain('concentrated');
  });

  it('says where no rule of the verdict has anything to say', async () => {
    const more = ['--output', 'eight', '--r', '8', '--max-steps', '3', '--target-modules', 'q_proj,v_proj'];
    await run(root, [...training, ...more]);
    const { stdout } = await run(root, ['analyze', 'eight', '--modules', 'model.layers.1.self_attn.v_proj']);
    expect(stdout).toMatch(/^verdict {3}nothing stands out by the rules of docs\/analysis\.md$/m);
  });

  it('prints tables and a verdict, and writes JSON and pictures', async () => {
    const { code, stdout, stderr } = await run(root, ['analyze', 'four', 'two', '--output', 'analysis']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(
      /^module +layers +r +sigma_1 +entropy rank +stable rank +90% +99% +\|dW\|\/\|W\|$/m,
    );
    expect(stdout).toMatch(/^q_proj +2 +4 +[\d.e-]+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+%$/m);
    expect(stdout).toMatch(/^v_proj +[\d.e-]+ +[\d.]+ +[\d.]+ +[\d.e-]+ +0$/m);
    expect(stdout).toMatch(/^phi of its directions and those of two:$/m);
    expect(stdout).toMatch(/^module +A: first +A: all +A: distance +B: first +B: all +B: distance$/m);
    expect(stdout).toMatch(/^where it sits: [qv]_proj [\d.]+%, [qv]_proj [\d.]+%$/m);
    const files = (await readdir(join(root, 'analysis'))).sort();
    const pictures = ['similarity-a', 'similarity-b', 'spectra', 'weight'];
    expect(files).toEqual(['analysis.json', ...pictures.flatMap((name) => [`${name}.png`, `${name}.svg`])]);
    for (const name of pictures) {
      expect(await readFile(join(root, 'analysis', `${name}.svg`), 'utf8')).toMatch(/^<svg .*<\/svg>\s*$/s);
    }
    const analysis = (await readJsonFile(root, 'analysis', 'analysis.json')) as unknown as Analysis;
    expect(analysis.modules.map((module) => module.name)).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
      'model.layers.1.self_attn.q_proj',
      'model.layers.1.self_attn.v_proj',
    ]);
    expect(analysis.modules[0].similarity.b.phi.map((row) => row.length)).toEqual([2, 2, 2, 2]);
    const again = await run(root, ['analyze', 'four', '--output', 'analysis']);
    expect([again.code, again.stderr]).toEqual([
      1,
      'lowrank: analysis exists already; choose another output, or replace it by --overwrite\n',
    ]);
    const replaced = await run(root, [
      ...['analyze', 'four', '--modules', 'q_proj', '--output', 'analysis', '--overwrite'],
    ]);
    expect([replaced.code, replaced.stderr]).toEqual([0, '']);
    const { modules } = (await readJsonFile(root, 'analysis', 'analysis.json')) as unknown as Analysis;
    expect(modules).toHaveLength(2);
    // What no analysis wrote, and what is analyzed, stays.
    for (const [output, why] of [
      ['model', 'model is no analysis folder and is not overwritten'],
      ['four', 'four is no analysis folder and is not overwritten'],
    ]) {
      const refused = await run(root, ['analyze', 'four', '--output', output, '--overwrite']);
      expect([refused.code, refused.stderr]).toEqual([1, `lowrank: ${why}\n`]);
    }
  });

  it('--json has an object a line; --all a row for each module', async () => {
    const { stdout } = await run(root, ['analyze', 'four', '--modules', 'v_proj', '--json']);
    const events = jsonLines(stdout);
    expect(events.map(({ kind }) => kind)).toEqual(['module', 'module', 'analysis']);
    expect(events[0]).toMatchObject({
      name: 'model.layers.0.self_attn.v_proj',
      layer: 0,
      similarity: { with: 'random' },
    });
    const all = await run(root, ['analyze', 'four', '--all']);
    expect(all.stdout).toMatch(/^model\.layers\.1\.self_attn\.v_proj +1 +4 /m);
  });

  it('refuses what does not fit in one sentence', async () => {
    const wrong = async (...args: string[]) => {
      const { code, stderr } = await run(root, ['analyze', ...args]);
      expect(stderr.trim().split('\n')).toHaveLength(1);
      return [code, stderr];
    };
    expect(await wrong('nothing')).toEqual([1, expect.stringContaining('there is nothing at nothing')]);
    expect(await wrong('model')).toEqual([1, expect.stringContaining('model names no base')]);
    expect(await wrong('four', '--modules', 'k_proj')).toEqual([
      1,
      expect.stringContaining('modules "k_proj" matches no layer'),
    ]);
    expect(await wrong('four', '--overwrite')).toEqual([2, 'lowrank: --overwrite is for --output\n']);
    expect(await wrong('four', '--directions', '0')).toEqual([2, expect.stringContaining('--directions')]);
  });
});
