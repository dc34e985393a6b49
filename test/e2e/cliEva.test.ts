import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { jsonLines, makeWorkspace, overriding, readJsonFile, run, start, training } from './cliSupport.js';

let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
});
afterAll(() => rm(root, { recursive: true, force: true }));

const read = (...path: string[]) => readJsonFile(root, ...path);
const eva = [
  '--init-lora-weights',
  'eva',
  '--target-modules',
  'all-linear',
  '--r',
  '4',
  '--eva-batches',
  '3',
];

it.each([
  ['lora', []],
  ['dora', ['--quantize', 'nf4', '--eva-config', '{"rho": 1.5}']],
  ['lorafa', ['--lora-alpha', '8']],
  ['loraplus', ['--use-rslora']],
])('train --init-lora-weights eva, of %s, tells and saves what it chose', async (method, more) => {
  const args = [...training, ...eva, '--method', method, ...more, '--output', method, '--max-steps', '2'];
  const done = await run(root, args);
  expect(done.code, done.stderr).toBe(0);
  expect(done.stdout).toMatch(/^eva {7}[\d,]+ tokens of \d batch/m);
  expect(done.stdout).toMatch(/^ {2}down_proj +\d+(\.\d+)?% {2}[-\d]+ [-\d]+$/m);
  const { init_lora_weights, eva_config, rank_pattern } = await read(method, 'adapter_config.json');
  expect(init_lora_weights).toBe('eva');
  expect(eva_config).toMatchObject({ rho: method === 'dora' ? 1.5 : 2, tau: 0.99 });
  expect(Object.keys(rank_pattern as object).length).toBeGreaterThan(0);
  const used = await run(root, ['eval', '--model', 'model', '--adapter', method, '--data', 'heldout.jsonl']);
  expect(used.code, used.stderr).toBe(0);
});

it('a run that was stopped goes on with the same ranks', async () => {
  const often = ['--max-steps', '300', '--batch-size', '64', '--save-steps', '1'];
  const running = start(root, [...training, ...eva, '--output', 'cut', ...often]);
  await running.sees(/^step /m);
  running.kill('SIGINT');
  const outcome = await running.outcome;
  expect(outcome, outcome.stdout).toMatchObject({ code: 130 });
  const resumed = await run(root, ['train', '--output', 'cut', '--resume', '--json']);
  expect(resumed.code, resumed.stderr).toBe(0);
  const [told] = jsonLines(resumed.stdout).filter(({ kind }) => kind === 'eva');
  const ranks = (told.choices as { site: string; r: number }[]).filter(({ r }) => r !== 0 && r !== 4);
  const { rank_pattern } = await read('cut', 'adapter_config.json');
  expect(rank_pattern).toEqual(Object.fromEntries(ranks.map(({ site, r }) => [site, r])));
});

it.each([
  [['--target-modules', 'embed_tokens,q_proj'], 1, 'model.embed_tokens is an embedding: leave it out'],
  [['--eva-config', '{"rho": 0.5}'], 2, 'rho: expected at least 1'],
  [['--eva-config', '{"rhoo": 2}'], 2, 'rhoo'],
  [['--r', 'auto'], 1, 'init_lora_weights "eva" chooses the ranks itself'],
  [['--method', 'pissa'], 1, 'this method starts A and B in its own way'],
  [['--method', 'vera'], 1, '--init-lora-weights is not for method vera'],
  [['--init-lora-weights', 'mica'], 1, '--eva-batches is for --init-lora-weights "eva" only'],
])('%j are refused', async (more, code, message) => {
  const refused = await run(root, overriding([...training, ...eva, '--output', 'none'], more));
  expect(refused).toMatchObject({ code, stdout: expect.not.stringContaining('step ') });
  expect(refused.stderr).toContain(message);
});
