import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openingOf, openingOfRun } from './opening.js';
import { RunFolder } from './runFolder.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-opening-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const chat = (...turns: [string, string | null][]) => ({
  messages: turns.map(([role, content]) => ({ role, content })),
});
const long = `${'word '.repeat(40)}end`;
const alpaca = { instruction: 'Add.', input: '1 and 2', output: '3' };

it.each([
  ['a prompt', { prompt: 'Oslo, Friday:', completion: ' rain' }, { prompt: 'Oslo, Friday:' }],
  ['a long prompt', { prompt: `\n${long}\nmore`, completion: ' .' }, { prompt: 'word '.repeat(20).trim() }],
  [
    'a chat',
    chat(['system', 'Be kind.'], ['user', 'Hi?'], ['assistant', 'Hello.']),
    { chat: 'Hi?', system: 'Be kind.' },
  ],
  ['a long system text', chat(['system', long], ['user', 'Hi?'], ['assistant', 'Ho.']), { chat: 'Hi?' }],
  ['a chat of nobody', chat(['user', ' '], ['assistant', 'Ho.']), { chat: 'Hello!' }],
  ['an instruction', alpaca, { chat: 'Add.' }],
  ['a text', { text: '  The sea, the  sky and more of it.' }, { prompt: 'The sea, the sky' }],
])('begins %s as generation sees it', async (_, row, opening) => {
  const data = join(folder, 'rows.jsonl');
  await writeFile(data, `${JSON.stringify(row)}\n`);
  expect(await openingOf({ data: [data] }, true)).toEqual(opening);
});

it("takes held-out rows first, and Alpaca's frame whole where there is no chat template", async () => {
  const [data, evalData] = [join(folder, 'train.jsonl'), join(folder, 'heldout.jsonl')];
  await writeFile(data, '{"prompt":"a","completion":"b"}\n');
  await writeFile(evalData, `${JSON.stringify(alpaca)}\n`);
  const opening = await openingOf({ data: [data], evalData: [evalData] }, false);
  expect(opening).toEqual({ prompt: expect.stringMatching(/^Below is .*### Response:\n$/s) });
});

it('is that of what an adapter was trained on, where its run says it and the rows are there', async () => {
  const data = join(folder, 'chats.jsonl');
  await writeFile(data, `${JSON.stringify(chat(['user', 'Hi?'], ['assistant', 'Hello.']))}\n`);
  const run = join(folder, 'run');
  const claimed = await RunFolder.claim(run);
  const record = {
    status: 'running' as const,
    options: { data: [data] },
    command: 'c',
    model: {},
    sessions: [],
  };
  await claimed.begin(record, 0);
  await claimed.release();
  expect(await openingOfRun(run)).toEqual({ chat: 'Hi?' });
  await rm(data);
  expect(await openingOfRun(run)).toBeUndefined();
  expect(await openingOfRun(folder)).toBeUndefined();
});
