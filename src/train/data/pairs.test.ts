import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadTokenizer, type Tokenizer } from '../../formats/tokenizer.js';
import { microBatchesOf } from './batches.js';
import { TokenCache } from './cache.js';
import type { EncodeRowsOptions, EncodeStats } from './encode.js';
import { encodePairs } from './encodePairs.js';
import { PairCache } from './pairCache.js';
import { PAIR_FORMS } from './pairForms.js';
import { type Pair, pairs } from './pairs.js';
import { checkedRows, rowsFrom, streamRows } from './rows.js';

const fixtures = new URL('../../formats/fixtures/', import.meta.url);
let tokenizer: Tokenizer;
let folder: string;
beforeAll(async () => {
  tokenizer = await loadTokenizer(fileURLToPath(new URL('tokenizer/bytelevel', fixtures)));
  folder = mkdtempSync(join(tmpdir(), 'pairs-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const row = (value: object) => rowsFrom([value], PAIR_FORMS)[0];
const user = (content: string) => ({ role: 'user', content });
const says = (content: string) => ({ role: 'assistant', content });

describe('rows of preferences', () => {
  it('are prompts and answers as texts', () => {
    expect(row({ prompt: 'a', chosen: ' b', rejected: ' c', score: 3 })).toEqual({
      kind: 'pairs of texts',
      line: 1,
      chosen: { kind: 'completion', prompt: 'a', completion: ' b' },
      rejected: { kind: 'completion', prompt: 'a', completion: ' c' },
    });
  });

  const asked = [user('Hi?'), says('Hello.'), user('And?')];
  const messages = {
    kind: 'pairs of messages',
    line: 1,
    chosen: { kind: 'messages', messages: [...asked, says('x')], masked: [1] },
    rejected: { kind: 'messages', messages: [...asked, says('y')], masked: [1] },
  };
  it.each([
    ['a prompt of messages', { prompt: asked, chosen: [says('x')], rejected: [says('y')] }],
    ['answers as texts behind it', { prompt: asked, chosen: 'x', rejected: 'y' }],
    ['whole conversations', { chosen: [...asked, says('x')], rejected: [...asked, says('y')] }],
    [
      'whole conversations beside their prompt as a text',
      { prompt: 'Hi?', chosen: [...asked, says('x')], rejected: [...asked, says('y')] },
    ],
    [
      "LLaMA-Factory's",
      {
        conversations: [
          { from: 'human', value: 'Hi?' },
          { from: 'gpt', value: 'Hello.' },
          { from: 'human', value: 'And?' },
        ],
        chosen: { from: 'gpt', value: 'x' },
        rejected: { from: 'gpt', value: 'y' },
      },
    ],
  ])('are conversations: %s', (_, value) => {
    expect(row(value)).toEqual(messages);
  });

  it('are answers to a text that is the user’s turn', () => {
    expect(row({ prompt: 'Hi?', chosen: [says('x')], rejected: [says('y')] })).toMatchObject({
      chosen: { messages: [user('Hi?'), says('x')] },
      rejected: { messages: [user('Hi?'), says('y')] },
    });
  });

  it("are Alpaca's instructions with two outputs", () => {
    expect(row({ instruction: 'a', input: 'b', chosen: 'x', rejected: 'y' })).toMatchObject({
      kind: 'pairs of instructions',
      chosen: { kind: 'instruction', instruction: 'a', input: 'b', output: 'x' },
      rejected: { output: 'y' },
    });
  });

  it('are texts that begin alike, up to the last whole word', () => {
    const [chosen, rejected] = ["\n\nHuman: Hi?\n\nAssistant: I'm in.", '\n\nHuman: Hi?\n\nAssistant: I am.'];
    expect(row({ chosen, rejected })).toMatchObject({
      kind: 'pairs of texts',
      chosen: { prompt: '\n\nHuman: Hi?\n\nAssistant:', completion: " I'm in." },
      rejected: { completion: ' I am.' },
    });
  });

  it('come from CSV and Parquet-like tables too, messages as JSON text', async () => {
    const cell = (value: unknown) => `"${JSON.stringify(value).replaceAll('"', '""')}"`;
    const path = join(folder, 'rows.csv');
    const read = async (text: string) => {
      writeFileSync(path, text);
      const rows = [];
      for await (const one of streamRows(path, PAIR_FORMS)) rows.push(one);
      return rows;
    };
    expect(await read('id,prompt,chosen,rejected\n1,a, b,"[{c"\n')).toMatchObject([
      { kind: 'pairs of texts', chosen: { completion: ' b' }, rejected: { completion: '[{c' } },
    ]);
    const line = [asked, [says('x')], [says('y')]].map(cell).join();
    expect(await read(`prompt,chosen,rejected\n${line}\n`)).toEqual([{ ...messages, line: 2 }]);
    const told = [
      [...asked, says('x')],
      [...asked, says('y')],
    ]
      .map(cell)
      .join();
    expect(await read(`chosen,rejected\n${told}\n`)).toEqual([{ ...messages, line: 2 }]);
  });

  it.each([
    [
      { prompt: 'a', completion: 'b' },
      /row 1: .*"chosen".*received undefined|expected the keys "prompt" and "chosen" and "rejected"/,
    ],
    [{ prompt: 'a', chosen: ' b', rejected: [says('c')] }, /"chosen": expected a list of messages/],
    [{ chosen: 'abc', rejected: 'xyz' }, /have no beginning in common that could be the prompt/],
    [
      { chosen: [user('a'), says('b')], rejected: [user('c'), says('d')] },
      /key "chosen": expected a turn of the assistant behind the prompt, found one of the user/,
    ],
    [
      { conversations: [{ from: 'human', value: 'a' }], chosen: 'b', rejected: 'c' },
      /key "chosen": expected one turn, as \{"from": "gpt", "value": "..."\}/,
    ],
  ])('are refused: %j', (value, message) => {
    expect(() => row(value)).toThrow(message);
  });
});

async function encoded(
  values: readonly object[],
  options: Partial<EncodeRowsOptions> = {},
): Promise<{ found: Pair[]; stats: EncodeStats }> {
  const each = encodePairs(checkedRows(values, PAIR_FORMS), tokenizer, { maxLength: 100, ...options });
  const found: Pair[] = [];
  for (;;) {
    const next = await each.next();
    if (next.done) return { found, stats: next.value };
    found.push(next.value);
  }
}

const learned = ({ ids, supervised }: Pair['chosen']) =>
  tokenizer.decode([...ids].filter((_, i) => supervised[i] === 1));

describe('encoded pairs', () => {
  it('learn of each answer its tokens and its end', async () => {
    const { found, stats } = await encoded([{ prompt: 'the river', chosen: ' is long', rejected: ' is' }]);
    expect(found.map(({ chosen, rejected }) => [learned(chosen), learned(rejected)])).toEqual([
      [' is long<|im_end|>', ' is<|im_end|>'],
    ]);
    expect(stats).toMatchObject({ rows: 1, examples: 1, alike: 0 });
    expect(stats.tokens).toBe(found[0].chosen.ids.length + found[0].rejected.ids.length);
  });

  it('are cut and counted as pairs, left out where one side has nothing left, told where both are the same', async () => {
    const rows = [
      { prompt: 'a b', chosen: ' x y z x y z', rejected: ' x' },
      { prompt: 'a b c d e f g h', chosen: ' x', rejected: ' y' },
      { prompt: 'a', chosen: ' x', rejected: ' x' },
    ];
    const { found, stats } = await encoded(rows, { maxLength: 6 });
    expect(found.map(({ line }) => line)).toEqual([1, 3]);
    expect(stats).toMatchObject({ rows: 3, examples: 2, truncated: 1, dropped: 1, alike: 1 });
  });

  it('are kept in a file of tokens and come back as they were', async () => {
    const rows = [
      { prompt: 'the river', chosen: ' is long', rejected: ' is' },
      { prompt: 'a b', chosen: ' x', rejected: ' y z' },
    ];
    const { found, stats } = await encoded(rows);
    const cache = new PairCache(new TokenCache(folder));
    const encode = () => encodePairs(checkedRows(rows, PAIR_FORMS), tokenizer, { maxLength: 100 });
    const nothing = () => {
      throw new Error('it was kept');
    };
    for (const from of [encode, nothing]) {
      const kept = await cache.load('key', from);
      expect([...kept.examples]).toEqual(found);
      expect(kept.stats).toEqual(stats);
      expect(Array.from(kept.examples.lengths!)).toEqual(
        found.map(({ chosen, rejected }) => Math.max(chosen.ids.length, rejected.ids.length)),
      );
      await kept.close();
    }
  });

  it('refuse to learn their prompts', async () => {
    await expect(encoded([{ prompt: 'a', chosen: 'b', rejected: 'c' }], { lossOn: 'all' })).rejects.toThrow(
      'lossOn "all" is not for preferences',
    );
  });
});

describe('micro-batches of pairs', () => {
  it('have both answers one behind the other, within the budget, and say which targets are whose', async () => {
    const { found } = await encoded([
      { prompt: 'a b', chosen: ' x y', rejected: ' z' },
      { prompt: 'c', chosen: ' x', rejected: ' y z x y z' },
    ]);
    const micros = microBatchesOf(found, pairs, 1);
    expect(micros.map(({ rows, weight }) => [rows, weight])).toEqual([
      [2, 1],
      [2, 1],
    ]);
    const micro = pairs.assembled(found.map((pair) => [pair]));
    expect(micro).toMatchObject({ rows: 4, weight: 2 });
    const { chosenTokens, rejectedTokens, answerShares } = micro.feeds!;
    const counts = found.flatMap(({ chosen, rejected }) =>
      [chosen, rejected].map(({ supervised }) => supervised.filter((x) => x === 1).length),
    );
    const sums = [chosenTokens, rejectedTokens].map(({ data, dims }) =>
      Array.from({ length: dims[0] }, (_, i) =>
        [...(data as Float32Array)].slice(i * dims[1], (i + 1) * dims[1]).reduce((a, b) => a + b, 0),
      ),
    );
    expect([sums[0][0], sums[1][0], sums[0][1], sums[1][1]]).toEqual(counts);
    for (const [i, share] of [...(answerShares.data as Float32Array)].entries()) {
      expect(share).toBeCloseTo(1 / counts[i], 6);
    }
  });
});
