import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { TEXT_FORMS } from './forms.js';
import { readRows, streamRows } from './rows.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tables-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const read = (content: string | Uint8Array, name = 'train.csv') => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return readRows(path);
};
const refusal = async (reading: Promise<unknown>) => {
  const error = await reading.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UserError);
  return String(error).replaceAll(`${folder}/`, '');
};

describe('CSV and TSV', () => {
  it('reads the columns that make rows, in any order, and lets others be', async () => {
    expect(await read('id,completion,prompt\n7,b,a\n8,"d, ""d""\n",c\n')).toEqual([
      { kind: 'completion', line: 2, prompt: 'a', completion: 'b' },
      { kind: 'completion', line: 3, prompt: 'c', completion: 'd, "d"\n' },
    ]);
    expect(await read('text\na,b', 'train.TSV')).toEqual([{ kind: 'text', line: 2, text: 'a,b' }]);
    expect(await read('text\tn\n"a\tb"\t1', 'train.tsv')).toEqual([{ kind: 'text', line: 2, text: 'a\tb' }]);
  });

  it('reads messages and tools as JSON text', async () => {
    const messages = [{ role: 'user', content: 'a "b", c' }];
    const cell = (value: unknown) => `"${JSON.stringify(value).replaceAll('"', '""')}"`;
    expect(
      await read(`messages,tools\n${cell(messages)},\n${cell(messages)},${cell([{ name: 'f' }])}`),
    ).toEqual([
      { kind: 'messages', line: 2, messages },
      { kind: 'messages', line: 3, messages, tools: [{ name: 'f' }] },
    ]);
  });

  it('takes each row by the columns that it fills', async () => {
    expect(await read('prompt,completion,text\nHi, Yes,\n', 'a.csv')).toEqual([
      { kind: 'completion', line: 2, prompt: 'Hi', completion: ' Yes' },
    ]);
    expect(await read('instruction,input,output\nAdd.,,5\n', 'a.csv')).toEqual([
      { kind: 'instruction', line: 2, instruction: 'Add.', input: '', output: '5' },
    ]);
  });

  it('counts lines as an editor does: blank ones, CRLF, line ends inside quotes', async () => {
    const rows = await read('\ufeff\r\ntext,n\r\n"a\r\nb",1\r\n\r\n"c\n\nd",2\r\ne,3');
    expect(rows.map((row) => row.line)).toEqual([3, 6, 9]);
    expect(rows.map((row) => row.kind === 'text' && row.text)).toEqual(['a\r\nb', 'c\n\nd', 'e']);
  });

  it('reads characters across the pieces that it reads', async () => {
    const long = 'é家👋'.repeat(150_000);
    const rows = await read(`text\n${long}\n"${long}"\n`);
    expect(rows.map((row) => row.kind === 'text' && row.text === long)).toEqual([true, true]);
  });

  it.each<[string, string | Uint8Array, string]>([
    [
      'other columns',
      'question,answer\na,b',
      'train.csv line 1: expected the columns "messages", or "prompt" and "completion", or "instruction" and "output", or ' +
        '"conversations", or "text", found "question", "answer"',
    ],
    ['a near miss', 'texts\na', 'did you mean "text"?'],
    ['the wrong delimiter', 'prompt;completion\na;b', 'found "prompt;completion"'],
    ['half of the columns', '\nprompt,x\na,b', 'line 2: the column "completion" is missing'],
    ['two kinds', 'text,prompt,completion\na,b,c', 'line 2 is several rows in one'],
    ['an empty cell', 'prompt,completion\nHi,\nHo," Hello"', 'line 2: the column "completion" is empty'],
    ['a row without any kind', 'prompt,completion,text\n,,', 'line 2: the column'],
    ['a column twice', 'text,text\na,b', 'the column "text" is there twice'],
    ['a short record', 'text,n\n"a\nb",1\nc', 'line 4 has 1 field, the line of the columns 2 fields'],
    ['a long record', 'text\na,b', 'line 2 has 2 fields, the line of the columns 1 field'],
    ['a quote inside', 'text\na\nsay "b"', 'line 3: a quote stands inside a field'],
    ['text behind a quote', 'text\n"a" b', 'line 2: something stands behind a closing quote'],
    ['an open quote', 'text\na\n"b\nc\nd', 'line 3: a quote that opens a field is never closed'],
    ['bad JSON', 'messages\n[1', 'line 2, column "messages" is not valid JSON'],
    ['a wrong role', 'messages\n"[{""role"":""me"",""content"":""a""}]"', 'line 2: key "messages.0.role"'],
    ['no rows', 'text\n\n', 'train.csv has no rows'],
    ['an empty file', '', 'train.csv has no rows'],
    ['not UTF-8', Uint8Array.of(0x74, 0x65, 0x78, 0x74, 0x0a, 0xff), 'train.csv is not UTF-8 text'],
  ])('refuses %s', async (_, content, message) => {
    expect(await refusal(read(content))).toContain(message);
  });

  it('gives rows or a UserError, whatever the text', async () => {
    const piece = fc.constantFrom(
      'text',
      'prompt',
      ',',
      '"',
      '\n',
      '\r',
      '\r\n',
      'a',
      '""',
      '\u0000',
      '\ufeff',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
        const result = await read(pieces.join('')).catch((thrown: unknown) => thrown);
        if (!Array.isArray(result)) expect(result).toBeInstanceOf(UserError);
      }),
      { numRuns: 200 },
    );
  });
});

// The files are pyarrow's: five pairs in row groups of two, by codec; chats as a list of structs.
describe('Parquet', () => {
  const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}.parquet`, import.meta.url));

  it.each(['none', 'snappy', 'gzip', 'brotli', 'zstd', 'lz4'])('reads pairs (%s)', async (codec) => {
    const prompts = ['a', 'é 家 👋', '', 'same', 'same'];
    const completions = ['1', '2\n2', '3', '4', '5'];
    expect(await readRows(fixture(`pairs.${codec}`))).toEqual(
      prompts.map((prompt, i) => ({ kind: 'completion', line: i + 1, prompt, completion: completions[i] })),
    );
  });

  it('tells how far it has come by its rows', async () => {
    const path = fixture('pairs.none');
    const told: number[] = [];
    const onBytes = (done: number, total: number) => told.push(done / total);
    for await (const _ of streamRows(path, TEXT_FORMS, onBytes));
    expect(told).toEqual([0.2, 0.4, 0.6, 0.8, 1]);
  });

  it('reads chats as lists of records', async () => {
    expect(await readRows(fixture('chats'))).toEqual([
      {
        kind: 'messages',
        line: 1,
        messages: [
          { role: 'user', content: 'hi' },
          { role: 'assistant', content: 'yo', name: 'bot' },
        ],
      },
      { kind: 'messages', line: 2, messages: [{ role: 'user', content: 'x' }], tools: [{ name: 'f' }] },
    ]);
  });

  it.each([
    ['chatText', 'chatText.parquet row 2, column "messages" is not valid JSON'],
    ['null', 'null.parquet row 2: the column "text" is empty'],
    ['numbers', 'row 1, column "text": expected text, found a bigint'],
    ['bytes', 'cannot be read as Parquet (rows 1 to 2)'],
    ['columns', 'or "text", found "texts", "n", did you mean "text"?'],
  ])('refuses %s', async (name, message) => {
    expect(await refusal(readRows(fixture(name)))).toContain(message);
  });

  it('refuses what is no Parquet file', async () => {
    const message = 'a.parquet is not a Parquet file: it does not begin with "PAR1"';
    for (const content of ['', 'PA', '{"text":"hello there"}']) {
      expect(await refusal(read(content, 'a.parquet'))).toContain(message);
    }
    expect(await refusal(read('PAR1', 'a.parquet'))).toContain('cannot be read as Parquet: bytes -4 to 4');
  });

  it('gives rows or a UserError, whatever bytes are changed or missing', async () => {
    const files = ['pairs.none', 'pairs.snappy', 'pairs.gzip', 'pairs.zstd', 'chats'].map((name) =>
      readFileSync(fixture(name)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...files),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }),
        fc.option(fc.nat()),
        async (file, changes, cut) => {
          const bytes = Uint8Array.from(file);
          for (const [at, value] of changes) bytes[at % bytes.length] = value;
          const kept = cut === null ? bytes : bytes.subarray(0, cut % bytes.length);
          const result = await read(kept, 'fuzz.parquet').catch((thrown: unknown) => thrown);
          if (!Array.isArray(result)) expect(result).toBeInstanceOf(UserError);
        },
      ),
      { numRuns: 300 },
    );
  });
});
