import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorkspace, readJsonFile, run, training } from './cliSupport.js';

let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
});
afterAll(() => rm(root, { recursive: true, force: true }));

const short = [...training, '--max-steps', '2'];
const lossOf = (stdout: string) => /loss\s+([\d.]+)/.exec(stdout)![1];

it.each([
  ['lora over nf4', 'nf4', []],
  ['loftq over nf4', 'nf4', ['--method', 'loftq']],
  ['loftq with a base of its own', 'int8', ['--method', 'loftq', '--loftq-iter', '3']],
])('%s: what train tells to do generates, and merges to the same loss', async (name, base, more) => {
  const output = name.replaceAll(' ', '-');
  const trained = await run(root, [...short, '--quantize', base, ...more, '--output', output]);
  expect(trained.code, trained.stderr).toBe(0);
  const told = trained.stdout.match(/^ {2}.*lowrank (generate|merge) .*$/gm)!;
  expect(told).toHaveLength(2);
  const words = told.map((line) => line.slice(line.indexOf('lowrank ') + 'lowrank '.length).split(' '));
  for (const args of words) {
    expect(args).toEqual(expect.arrayContaining(['--quantize', base]));
    const done = await run(
      root,
      args[0] === 'generate' ? [...args.slice(0, 8), '4 is', '--max-new-tokens', '3'] : args,
    );
    expect(done.code, done.stderr).toBe(0);
  }
  const evaluated = async (...args: string[]) => {
    const done = await run(root, ['eval', '--data', 'heldout.jsonl', ...args]);
    expect(done.code, done.stderr).toBe(0);
    return lossOf(done.stdout);
  };
  expect(await evaluated('--model', `${output}-merged`)).toBe(
    await evaluated('--model', 'model', '--quantize', base, '--adapter', output),
  );
  const recipe = await readJsonFile(root, output, 'lowrank_base.json');
  expect(recipe).toMatchObject({ format: base, ...(more.length > 2 && { loftq: { iterations: 3 } }) });
});

it('loftq without a quantized base is refused', async () => {
  const refused = await run(root, [...short, '--method', 'loftq', '--output', 'none']);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('give the original as the model, and a base of nf4, int8 or int4');
});
