import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { jsonLines, makeWorkspace, run, start } from './cliSupport.js';

// `lowrank eval --generate` as a child process.

const root = await makeWorkspace();
afterAll(() => rm(root, { recursive: true, force: true }));

const evaluate = ['eval', '--model', 'model', '--data', 'heldout.jsonl', '--threads', '1', '--generate'];

it('tells how rows are answered, and writes the answers', async () => {
  const few = [
    ...evaluate,
    '--limit',
    '3',
    '--max-new-tokens',
    '4',
    '--predictions',
    join('to', 'said.jsonl'),
  ];
  const { code, stdout } = await run(root, [...few, '--json']);
  expect(code).toBe(0);
  const [told] = jsonLines(stdout);
  expect(told).toMatchObject({
    rows: 16,
    generations: { rows: 3, dropped: 0, unanswered: 0, bleu: { signature: /^nrefs:1\|.*tok:13a/ } },
  });
  expect(Object.keys(told.generations as object)).not.toContain('answers');
  const answers = jsonLines(await readFile(join(root, 'to', 'said.jsonl'), 'utf8'));
  expect(answers.map(({ line, source, prompt, reference }) => [line, source, prompt, reference])).toEqual([
    [1, 'heldout.jsonl', '64 is', 'even'],
    [2, 'heldout.jsonl', '65 is', 'odd'],
    [3, 'heldout.jsonl', '66 is', 'even'],
  ]);
  const again = await run(root, few);
  expect(again).toMatchObject({ code: 1, stdout: '' });
  expect(again.stderr).toMatch(/said\.jsonl exists already/);
  const text = await run(root, [...few, '--overwrite']);
  expect(text.stdout).toMatch(/^exact match \d\.\d{4}\nBLEU {8}\d+\.\d\d \(nrefs:1\|.*\nROUGE-L {5}\d/m);
});

it('leaves nothing when it is interrupted', async () => {
  const row = (i: number) => `${JSON.stringify({ prompt: `${i} is`, completion: ' odd' })}\n`;
  await writeFile(join(root, 'many.jsonl'), Array.from({ length: 1000 }, (_, i) => row(i)).join(''));
  const before = await readdir(root);
  const many = [...evaluate, '--data', 'many.jsonl', '--max-new-tokens', '100'];
  const long = start(root, [...many, '--predictions', 'late.jsonl']);
  await long.sees(/answering/);
  long.kill('SIGINT');
  const { code, signal } = await long.outcome;
  expect(code === 130 || signal === 'SIGINT').toBe(true);
  expect((await readdir(root)).sort()).toEqual(before.sort());
});
