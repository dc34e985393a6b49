import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { readAdapter } from '../../src/formats/peft.js';
import { openModel } from '../../src/models/base.js';

// The examples and the README's program, run as a reader runs them but for fewer steps: on the built package, under its
// own name, with the model that comes along. And docs/cli.md against the command's own help.

// Seconds alone, more when other work has the cores.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const root = fileURLToPath(new URL('../..', import.meta.url));
const model = 'demo';
const run = promisify(execFile);
let out: string;
beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), 'lowrank-examples-'));
});
afterAll(() => rm(out, { recursive: true, force: true }));

/** Runs a program of examples/ in the repository's root; rejects when it does not exit with 0. */
async function example(name: string, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await run(process.execPath, [`examples/${name}.mjs`, ...args], { cwd: root });
  expect(stderr).toBe('');
  return stdout;
}

/** The number behind a text. */
function numberAfter(text: string, output: string): number {
  const at = output.indexOf(text);
  expect(at, `"${text}" in ${output}`).toBeGreaterThanOrEqual(0);
  return Number.parseFloat(output.slice(at + text.length));
}

describe('examples', () => {
  let trained: string;
  beforeAll(async () => {
    trained = await example('train', model, out, '10');
  });

  it('are all tried here', async () => {
    expect((await readdir(join(root, 'examples'))).sort()).toEqual([
      'embed.mjs',
      'evaluate.mjs',
      'generate.mjs',
      'preferences.mjs',
      'swap-adapters.mjs',
      'train.mjs',
    ]);
  });

  it('train: learns and leaves an adapter and a merged model', async () => {
    const before = numberAfter('held-out loss after 0 steps: ', trained);
    expect(numberAfter('held-out loss after 10 steps: ', trained)).toBeLessThan(before);
    const { config, tensors } = await readAdapter(join(out, 'adapter'));
    expect(config).toMatchObject({ r: 8, lora_alpha: 16, base_model_name_or_path: model });
    const base = await openModel(join(root, 'assets/base'));
    const adapted = base.sites.filter((site) => site.kind === 'linear' && site.name !== 'lm_head');
    expect(tensors.size).toBe(2 * adapted.length);
    expect((await openModel(join(out, 'merged'))).parameters).toEqual(base.parameters);
  });

  it('generate: the same text merged and apart, and the base as it was', async () => {
    const output = await example('generate', model, join(out, 'adapter'), '16');
    const titles = /^base:(.+)\nadapter apart:(.+)\nadapter merged:(.+)\nbase again:(.+)\n$/s;
    const [base, apart, merged, again] = titles.exec(output)!.slice(1);
    expect(merged).toBe(apart);
    expect(apart).not.toBe(base);
    expect(again).toBe(base);
  });

  it('swap-adapters: each adapter says its own', async () => {
    const lines = (await example('swap-adapters', model, out, '12')).trimEnd().split('\n');
    const [keen, cool, again, neither] = lines.slice(2);
    expect(keen).toMatch(/^keen: ?\S/);
    expect(again).toBe(keen);
    expect(cool.replace('cool', 'keen')).not.toBe(keen);
    expect(neither).toMatch(/^neither:/);
    expect(keen.replace('keen', 'neither')).not.toBe(neither);
  });

  it('preferences: the right reports win', async () => {
    const output = await example('preferences', model, '10');
    expect(numberAfter('step 0: held-out loss ', output)).toBeCloseTo(Math.LN2, 2);
    expect(numberAfter('step 10: held-out loss ', output)).toBeLessThan(0.69);
    expect(numberAfter('margin ', output.slice(output.indexOf('step 10')))).toBeGreaterThan(0.01);
  });

  it('embed: a text comes nearer to what belongs to it than to another', async () => {
    const output = await example('embed', model);
    const [report, another] = /^after: (\S+) to its report, (\S+) to another$/m
      .exec(output)!
      .slice(1)
      .map(Number);
    expect(report).toBeGreaterThan(another + 0.1);
  });

  it('evaluate: tells both losses, and refuses in one sentence', async () => {
    const output = await example('evaluate', model, join(out, 'adapter'));
    const trainedLoss = numberAfter('held-out loss after 10 steps: ', trained);
    expect(numberAfter('adapter: loss ', output)).toBeCloseTo(trainedLoss, 2);
    expect(numberAfter('adapter: loss ', output)).toBeLessThan(numberAfter('base:    loss ', output));
    await expect(example('evaluate', model, join(out, 'nothing'))).rejects.toMatchObject({
      code: 1,
      stderr: `there is no adapter at ${join(out, 'nothing')}\n`,
    });
  });
});

it('the program of the README runs', async () => {
  const readme = await readFile(join(root, 'README.md'), 'utf8');
  const code = /```js\n([^`]*loadModel.*?)```/s.exec(readme)![1];
  // In a folder of the package, so that its name resolves; with fewer steps, and its output elsewhere.
  await mkdir(join(root, '.cache'), { recursive: true });
  const program = join(root, '.cache', `readme-${process.pid}.mjs`);
  const shorter = code.replace(/maxSteps: \d+/, 'maxSteps: 4').replaceAll("'my-", `'${out}/my-`);
  expect(shorter).not.toBe(code);
  await writeFile(program, shorter);
  try {
    const { stdout } = await run(process.execPath, [program], { cwd: root });
    expect(stdout).toMatch(/^4 [\d.]+$/m);
    expect(await readdir(join(out, 'my-adapter'))).toContain('adapter_model.safetensors');
    expect(await readdir(join(out, 'my-model'))).toContain('tokenizer.json');
  } finally {
    await rm(program);
  }
});

it('docs/methods.md has the table of methods', async () => {
  const { stdout } = await run(process.execPath, [join(root, 'docs/methods.mjs'), '--check']);
  expect(stdout).toBe('docs/methods.md is as the table of methods\n');
});

it('docs/cli.md has the options that --help tells', async () => {
  const { stdout } = await run(process.execPath, [join(root, 'docs/options.mjs'), '--check']);
  expect(stdout).toBe('docs/cli.md is as the help\n');
});

it('docs/cli.md shows what eval --json prints', async () => {
  const docs = await readFile(join(root, 'docs/cli.md'), 'utf8');
  const [, args, shown] = /^\$ lowrank (eval .*--json)\n(.*)$/m.exec(docs)!;
  const { stdout } = await run(process.execPath, [join(root, 'dist/cli/main.js'), ...args.split(' ')], {
    cwd: root,
  });
  const [expected, found] = [shown, stdout].map((text) => JSON.parse(text) as Record<string, unknown>);
  expect(Object.keys(found)).toEqual(Object.keys(expected));
  const exact = ({ loss: _, perplexity: __, ...others }: Record<string, unknown>) => others;
  expect(exact(found)).toEqual(exact(expected));
  expect(found.loss).toBeCloseTo(expected.loss as number, 3);
});
