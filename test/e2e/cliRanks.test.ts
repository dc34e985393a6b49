import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { jsonLines, makeWorkspace, readJsonFile, run, start, training } from './cliSupport.js';

let root: string;
beforeAll(async () => {
  root = await makeWorkspace();
});
afterAll(() => rm(root, { recursive: true, force: true }));

const read = (...path: string[]) => readJsonFile(root, ...path);
const auto = [
  '--r',
  'auto',
  '--target-modules',
  'all-linear',
  '--rank-budget',
  '2000',
  '--rank-batches',
  '2',
];

it('train --r auto spends a budget, says how, and saves ranks that PEFT reads', async () => {
  const args = [...training, ...auto, '--lora-alpha', '16', '--output', 'auto', '--max-steps', '2'];
  const done = await run(root, args);
  expect(done).toMatchObject({ code: 0, stderr: '' });
  const [, spent] = done.stdout.match(/([\d,]+) of 2,000 parameters spent/) ?? [];
  expect(done.stdout).toMatch(/^ {2}down_proj +\d+(\.\d+)?% {2}[-\d]+ [-\d]+$/m);
  expect(done.stdout).toContain(`trains    ${spent} parameters`);
  const { r, rank_pattern, alpha_pattern } = await read('auto', 'adapter_config.json');
  expect(r).toBe(8);
  const ranks = Object.entries(rank_pattern as Record<string, number>);
  expect(ranks.length).toBeGreaterThan(1);
  for (const [site, rank] of ranks) expect((alpha_pattern as Record<string, number>)[site]).toBe(2 * rank);
  const used = await run(root, ['eval', '--model', 'model', '--adapter', 'auto', '--data', 'heldout.jsonl']);
  expect(used).toMatchObject({ code: 0, stderr: '' });
});

it('a run whose ranks were chosen goes on with them', async () => {
  const running = start(root, [
    ...training,
    ...auto,
    '--output',
    'cut',
    '--max-steps',
    '300',
    '--batch-size',
    '64',
    '--save-steps',
    '1',
  ]);
  await running.sees(/^step /m);
  running.kill('SIGINT');
  const outcome = await running.outcome;
  expect(outcome, outcome.stdout).toMatchObject({ code: 130 });
  const before = (await read('cut', 'run.json')).options as Record<string, unknown>;
  const resumed = await run(root, ['train', '--output', 'cut', '--resume', '--json']);
  expect(resumed.code).toBe(0);
  expect(jsonLines(resumed.stdout).some(({ kind }) => kind === 'ranks')).toBe(false);
  const saved = await read('cut', 'adapter_config.json');
  expect(saved.rank_pattern).toEqual(before.rankPattern);
});

it('a budget that buys nothing is refused with what the smallest rank costs', async () => {
  const args = [...training, '--output', 'none', '--r', 'auto', '--rank-budget', '5'];
  const refused = await run(root, args);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain(
    'a budget of 5 parameters buys no rank: one of the smallest target costs 48',
  );
});
