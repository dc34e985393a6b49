import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  jsonLines,
  makeWorkspace,
  operationsOf,
  overriding,
  readJsonFile,
  run,
  start,
  startUnder,
  training,
} from '../e2e/cliSupport.js';

let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
  await mkdir(join(root, 'tmp'));
  await succeeds([...training, '--output', 'adapter', '--max-steps', '2', '--r', '2']);
  await succeeds(['merge', '--model', 'model', '--adapter', 'adapter', '--output', 'tuned']);
});
afterAll(() => rm(root, { recursive: true, force: true }));

async function succeeds(args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(root, args);
  expect(code, stderr).toBe(0);
}

const merge = ['merge', '--model', 'model', '--adapter', 'adapter', '--output', 'out'];
const convert = ['convert', 'model', '--dtype', 'float16', '--output', 'out'];
const convertToFile = ['convert', 'model', '--to', 'gguf', '--output', 'out'];
const combine = ['combine', 'adapter', 'adapter', '--output', 'out'];
const extract = ['extract', '--base', 'model', '--tuned', 'tuned', '--r', '2', '--output', 'out'];
const resize = ['resize', 'adapter', '--r', '1', '--output', 'out'];
const train = [...training, '--max-steps', '2', '--output', 'out'];
const quantize = [
  'eval',
  '--model',
  'model',
  '--data',
  'heldout.jsonl',
  '--quantize',
  'int8',
  '--threads',
  '1',
];

describe('an output', () => {
  it.each([merge, convert, combine, extract, resize, train].map((args) => ({ name: args[0], args })))(
    'of $name may be an empty folder',
    async ({ args }) => {
      const cwd = await mkdtemp(join(tmpdir(), 'lowrank-empty-'));
      const out = join(cwd, 'out');
      await mkdir(out);
      await succeeds(overriding(args, ['--output', out]));
      const names = await readdir(out);
      expect(names.some((name) => name.endsWith('.safetensors'))).toBe(true);
      expect(names.filter((name) => name.startsWith('.'))).toEqual([]);
      expect(await readdir(cwd)).toEqual(['out']);
      await rm(cwd, { recursive: true });
    },
  );

  it.each(
    [merge, convert, convertToFile, combine, extract, resize, train].map((args) => ({ name: args[0], args })),
  )('of $name that cannot be written is refused before any work', async ({ args }) => {
    const { code, stdout, stderr } = await run(root, overriding(args, ['--output', '/dev/null/x']));
    expect({ code, stdout, stderr }).toEqual({
      code: 1,
      stdout: '',
      stderr: 'lowrank: cannot write /dev/null/x: /dev/null is not a folder\n',
    });
  });
});

it('of two trainings into one folder the second is refused while the first runs', async () => {
  const first = start(root, [...training, '--output', 'shared', '--max-steps', '100000']);
  await first.sees(/^step +\d/m);
  for (const way of [['--overwrite'], ['--resume'], []]) {
    const args = way.includes('--resume')
      ? ['train', '--output', 'shared']
      : overriding(train, ['--output', 'shared']);
    const { code, stderr } = await run(root, [...args, ...way]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^lowrank: shared is in use: process \d+ trains into it\n$/),
    });
  }
  first.kill('SIGINT');
  expect((await first.outcome).code).toBe(130);
  const metrics = jsonLines(await readFile(join(root, 'shared', 'metrics.jsonl'), 'utf8'));
  expect(metrics.map(({ step }) => step)).toEqual(metrics.map((_, i) => i + 1));
  await succeeds([...overriding(train, ['--output', 'shared']), '--overwrite']);
  expect(await readJsonFile(root, 'shared', 'run.json')).toMatchObject({ status: 'complete' });
});

it('two commands that need the same entry of the cache make it once', async () => {
  const outcomes = await Promise.all([run(root, quantize), run(root, quantize), run(root, quantize)]);
  for (const { code, stderr } of outcomes) expect(code, stderr).toBe(0);
  expect(new Set(outcomes.map(({ stdout }) => /loss.*/.exec(stdout)?.[0])).size).toBe(1);
  const made = outcomes.filter(({ stderr, stdout }) => /quantizing model to/.test(stderr + stdout));
  expect(made).toHaveLength(1);
  const entries = (await readdir(join(root, 'cache'))).filter((name) => !name.startsWith('tokens-'));
  expect(entries).toEqual([expect.stringMatching(/^int8-/)]);
});

describe('a signal', () => {
  it.each(
    [
      { args: merge, signal: 'SIGINT' },
      { args: convert, signal: 'SIGTERM' },
      { args: convertToFile, signal: 'SIGINT' },
      { args: combine, signal: 'SIGHUP' },
      { args: extract, signal: 'SIGINT' },
      { args: resize, signal: 'SIGINT' },
      { args: quantize, signal: 'SIGINT' },
    ].map(({ args, signal }) => ({ name: args[0], args, signal })),
  )('$signal ends $name with 130 and leaves nothing', async ({ args, signal }) => {
    const cwd = await mkdtemp(join(tmpdir(), 'lowrank-signal-'));
    await cp(root, cwd, { recursive: true, preserveTimestamps: true });
    await rm(join(cwd, 'cache'), { recursive: true, force: true });
    await mkdir(join(cwd, 'cache'));
    const names = async () => {
      const all = await readdir(cwd, { recursive: true });
      // The engine's own.
      return all.filter((name) => !/\.ses$|mat-debug/.test(name)).sort();
    };
    const before = await names();
    const counted = `${cwd}-counted`;
    await cp(cwd, counted, { recursive: true, preserveTimestamps: true });
    const operations = await operationsOf(counted, args);
    const variables = { KILL_AT: `${Math.floor(operations / 2)} before`, KILL_SIGNAL: signal };
    const { code, stderr } = await startUnder(variables, cwd, args).outcome;
    expect({ code, stderr }).toMatchObject({ code: 130 });
    expect(await names()).toEqual(before);
    for (const folder of [cwd, counted]) await rm(folder, { recursive: true });
  });
});
