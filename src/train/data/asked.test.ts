import { fileURLToPath } from 'node:url';
import { beforeAll, expect, it } from 'vitest';
import { loadTokenizer, type Tokenizer } from '../../formats/tokenizer.js';
import { type Asked, askedReading } from './asked.js';
import { encodeRows } from './encode.js';
import { TEXT_FORMS } from './forms.js';
import { checkedRows, rowsFrom } from './rows.js';

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(
    fileURLToPath(new URL('../../formats/fixtures/tokenizer/bytelevel', import.meta.url)),
  );
});

/** The questions of rows, and what was counted. */
async function asked(
  values: unknown[],
  { limit, maxLength = 200 }: { limit?: number; maxLength?: number } = {},
) {
  const encoded = askedReading(limit).encode(checkedRows(values, TEXT_FORMS), tokenizer, { maxLength });
  const questions: Asked[] = [];
  for (;;) {
    const next = await encoded.next();
    if (next.done) return { questions, stats: next.value };
    questions.push(next.value);
  }
}

const chat = [
  { role: 'user', content: 'What is it?' },
  { role: 'assistant', content: 'The river.' },
  { role: 'user', content: 'And that?' },
  { role: 'assistant', content: 'A boat.' },
  { role: 'user', content: 'Thanks.' },
];

it.each<[string, object]>([
  ['prompt and completion', { prompt: 'the river is', completion: ' long' }],
  ['messages', { messages: chat.slice(0, 2) }],
  ['several turns', { messages: chat }],
  ['an instruction', { instruction: 'name it', input: 'water', output: 'the river' }],
])('%s: asks with the tokens that stand before the answer where it is learned', async (_, row) => {
  const { questions } = await asked([row]);
  const { examples } = await encodeRows(rowsFrom([row], TEXT_FORMS), tokenizer, { maxLength: 1000 });
  const { ids, supervised } = examples.at(-1)!;
  // Behind the last token that is not learned the answer begins.
  const start = supervised.lastIndexOf(0) + 1;
  expect([...questions[0].ids]).toEqual([...ids.slice(0, start)]);
  expect(tokenizer.decode([...ids.slice(start)])).toBe(`${questions[0].reference}<|im_end|>`);
});

it('the answer of a conversation is the last one that is learned and says something', async () => {
  const call = { type: 'function', function: { name: 'look', arguments: {} } };
  const { questions } = await asked([
    { messages: chat },
    { messages: [...chat.slice(0, 3), { ...chat[3], weight: 0 }] },
    { messages: [...chat.slice(0, 3), { role: 'assistant', content: null, tool_calls: [call] }] },
  ]);
  expect(questions.map(({ reference, prompt }) => [reference, prompt.length])).toEqual([
    ['A boat.', 3],
    ['The river.', 1],
    ['The river.', 1],
  ]);
  expect(questions.map(({ line }) => line)).toEqual([1, 2, 3]);
});

it("without a chat template an instruction is asked with Alpaca's prompt", async () => {
  const plain = tokenizer.withTemplates({});
  const rows = checkedRows([{ instruction: 'name it', output: 'x' }], TEXT_FORMS);
  const { value } = await askedReading().encode(rows, plain, { maxLength: 1000 }).next();
  expect((value as Asked).prompt).toMatch(/^Below is an instruction.*### Response:\n$/s);
});

it('counts what it leaves out, and stops at the limit', async () => {
  const rows = [
    { messages: chat.slice(0, 1) },
    { messages: [{ role: 'user', content: 'long '.repeat(100) }, chat[1]] },
    { messages: chat },
    { messages: chat },
    { messages: chat },
  ];
  const { questions, stats } = await asked(rows, { limit: 2 });
  expect(questions.map(({ line }) => line)).toEqual([3, 4]);
  expect(stats).toMatchObject({ rows: 4, examples: 2, dropped: 2, unanswered: 1 });
});

it('a question has to leave room for a token of its answer', async () => {
  const row = { prompt: 'the river is', completion: ' long' };
  const { length } = tokenizer.encode(row.prompt);
  expect((await asked([row], { maxLength: length + 1 })).questions).toHaveLength(1);
  await expect(asked([row], { maxLength: length })).rejects.toThrow(
    `the data: no prompt of the 1 rows leaves room for an answer within ${length} tokens`,
  );
});

it('refuses rows that ask nothing', async () => {
  await expect(asked([{ text: 'the river' }])).rejects.toThrow(
    'the data line 1 is a row of text, which has no answer to compare with: give rows of prompt and completion',
  );
  await expect(asked([{ prompt: '', completion: 'x' }])).rejects.toThrow(
    'the data line 1: the prompt is empty',
  );
  await expect(asked([{ messages: chat.slice(0, 1) }])).rejects.toThrow(
    'the data: no row has an answer of the assistant to compare with',
  );
});
