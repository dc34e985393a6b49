import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { renderChat } from '../../formats/chat.js';
import { TEXT_FORMS } from './forms.js';
import { readRows, rowsFrom } from './rows.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'rows-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const read = (content: string | Uint8Array, name = 'train.jsonl') => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return readRows(path);
};

describe('readRows', () => {
  it('reads each kind', async () => {
    expect(await read('{"text":"a"}\n{"text":"b","source":"x"}')).toEqual([
      { kind: 'text', line: 1, text: 'a' },
      { kind: 'text', line: 2, text: 'b' },
    ]);
    expect(await read('{"prompt":"a","completion":"b"}\n')).toEqual([
      { kind: 'completion', line: 1, prompt: 'a', completion: 'b' },
    ]);
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: null, tool_calls: [{ function: { name: 'f', arguments: {} } }] },
    ];
    expect(await read(JSON.stringify({ messages, tools: [{ name: 'f' }] }))).toEqual([
      { kind: 'messages', line: 1, messages, tools: [{ name: 'f' }] },
    ]);
  });

  it('reads one array of rows, wherever its pieces end', async () => {
    const rows = ['[', '}, ]"', 'é家👋'.repeat(40_000), '\\"'].map((text) => ({
      text,
      more: { a: [1, ','] },
    }));
    const expected = rows.map(({ text }, i) => ({ kind: 'text', line: i + 1, text }));
    expect(await read(`\ufeff\n${JSON.stringify(rows)}\n`)).toEqual(expected);
    expect(await read(JSON.stringify(rows, null, 2))).toEqual(expected);
  });

  it('tells the kind by the keys that are all there and not null', async () => {
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
    ];
    expect(await read(JSON.stringify({ prompt: 'a', prompt_id: 'x', messages }))).toEqual([
      { kind: 'messages', line: 1, messages },
    ]);
    expect(await read('{"prompt":"a","completion":"b","text":null,"messages":null}')).toEqual([
      { kind: 'completion', line: 1, prompt: 'a', completion: 'b' },
    ]);
  });

  it("reads Alpaca's rows, and lets the text that repeats them be", async () => {
    expect(await read('{"instruction":"a","input":"","output":"b","text":"### a\\nb"}')).toEqual([
      { kind: 'instruction', line: 1, instruction: 'a', input: '', output: 'b' },
    ]);
    expect(await read('{"instruction":"a","input":null,"output":"b","system":"s"}')).toEqual([
      { kind: 'instruction', line: 1, system: 's', instruction: 'a', input: '', output: 'b' },
    ]);
  });

  it('keeps the numbers of tools and of arguments as they are written, in each form', async () => {
    const template =
      '{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}{{ tools | tojson }}';
    const given = '{"z": 9007199254740993, "a": 1.0, "10": 1e-07, "9": 2}';
    const call = `{"type": "function", "function": {"name": "f", "arguments": ${given}}}`;
    const tools = `[{"type": "function", "function": {"name": "f", "default": ${given}}}]`;
    const messages = `[{"role": "user", "content": "a"}, {"role": "assistant", "weight": 1.0, "tool_calls": [${call}]}]`;
    const shareGpt = JSON.stringify([
      { from: 'human', value: 'a' },
      { from: 'function_call', value: `{"name": "f", "arguments": ${given}}` },
    ]);
    const quoted = (cell: string) => `"${cell.replaceAll('"', '""')}"`;
    const forms = {
      'train.jsonl': `{"messages": ${messages}, "tools": ${tools}}`,
      'train.json': `[{"messages": ${messages}, "tools": ${tools}}]`,
      'share.jsonl': `{"conversations": ${shareGpt}, "tools": ${JSON.stringify(tools)}}`,
      'train.csv': `messages,tools\n${quoted(messages)},${quoted(tools)}\n`,
    };
    for (const [name, content] of Object.entries(forms)) {
      writeFileSync(join(folder, name), content);
      const [row] = await readRows(join(folder, name));
      if (row.kind !== 'messages') throw new Error(row.kind);
      const text = renderChat(template, row.messages, { tools: row.tools });
      expect(text, name).toBe(`${given}${tools}`);
    }
  });

  it("reads TRL's conversational prompt and completion as messages, of which the completion is learned", async () => {
    const prompt = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
      { role: 'user', content: 'c' },
    ];
    const completion = [{ role: 'assistant', content: 'd' }];
    const [row] = await read(JSON.stringify({ prompt, completion, tools: [{ name: 'f' }] }));
    expect(row).toEqual({
      kind: 'messages',
      line: 1,
      messages: [...prompt, ...completion],
      tools: [{ name: 'f' }],
      masked: [1],
    });
    await expect(read(JSON.stringify({ prompt, completion: 'd' }))).rejects.toThrow(
      'key "completion": expected a list of messages, as "prompt" is',
    );
    await expect(read(JSON.stringify({ prompt: [{ role: 'x' }], completion }))).rejects.toThrow(
      'key "messages.0.role": expected one of system, ',
    );
  });

  it('reads messages as JSON text, as tables have them', async () => {
    const messages = [{ role: 'user', content: 'a' }];
    const tools = [{ name: 'f' }];
    const text = { messages: JSON.stringify(messages), tools: JSON.stringify(tools) };
    expect(await read(JSON.stringify(text))).toEqual([{ kind: 'messages', line: 1, messages, tools }]);
    await expect(read('{"messages": "hello"}')).rejects.toThrow('line 1: key "messages" is not valid JSON');
  });

  it.each([
    ['gzip', gzipSync('{"text":"a"}')],
    ['zstd', Buffer.from('28b52ffd04', 'hex')],
    ['zip', Buffer.from('PK\x03\x04', 'latin1')],
  ])('says of a compressed file that it is one: %s', async (how, bytes) => {
    await expect(read(bytes, 'rows.jsonl.gz')).rejects.toThrow(
      `rows.jsonl.gz is compressed (${how}), which is not read: unpack it first`,
    );
    await expect(read(bytes, 'rows.csv')).rejects.toThrow(`is compressed (${how})`);
  });

  it("reads ShareGPT's conversations as messages", async () => {
    const conversations = [
      { from: 'human', value: 'a' },
      { from: 'gpt', value: 'b', weight: 0 },
      { from: 'human', value: 'c' },
      { from: 'function_call', value: '{"name":"f","arguments":{"x":1}}' },
      { from: 'observation', value: '7' },
      { from: 'gpt', value: 'd' },
    ];
    expect(
      await read(JSON.stringify({ id: 1, conversations, system: 's', tools: '[{"name":"f"}]' })),
    ).toEqual([
      {
        kind: 'messages',
        line: 1,
        messages: [
          { role: 'system', content: 's' },
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
          { role: 'user', content: 'c' },
          {
            role: 'assistant',
            content: null,
            tool_calls: [{ type: 'function', function: { name: 'f', arguments: { x: 1 } } }],
          },
          { role: 'tool', content: '7' },
          { role: 'assistant', content: 'd' },
        ],
        tools: [{ name: 'f' }],
        masked: [2],
      },
    ]);
  });

  it('lets a byte order mark, CRLF and blank lines be, and counts lines as an editor does', async () => {
    const rows = await read('\ufeff{"text":"a"}\r\n\r\n  \n{"text":"b"}\r\n\n');
    expect(rows.map((row) => row.line)).toEqual([1, 4]);
  });

  it('reads lines and characters across the pieces that it reads', async () => {
    const long = 'é家👋'.repeat(150_000);
    const lines = ['short', long, 'x', `${long}y`].map((text) => JSON.stringify({ text }));
    const rows = await read(lines.join('\n'));
    expect(rows.map((row) => row.kind === 'text' && row.text)).toEqual(['short', long, 'x', `${long}y`]);
  });

  it.each<[string, string | Uint8Array, string]>([
    ['a cut row', '{"text":"a"}\n{"text":"b"', ' line 2 is not valid JSON: column 12'],
    ['no JSON', 'text\nhello', ' line 1 is not valid JSON'],
    ['not UTF-8', Uint8Array.of(0x7b, 0xff, 0x7d), ' line 1 is not UTF-8 text'],
    ['no rows', '\n \r\n', ' has no rows'],
    ['an empty file', '', ' has no rows'],
    [
      'a row that is an array',
      '{"text":"a"}\n[1]',
      ' line 2: expected an object with the keys "messages", or "prompt" and',
    ],
    ['an array of no rows', '[]', ' has no rows'],
    ['an item that is no row', '[{"text":"a"}, 7]', ' row 2: expected an object'],
    ['an array with a gap', '[{"text":"a"},\n]', ' row 2: expected a row, found nothing'],
    ['an array that does not end', '[{"text":"a"},', ' row 2: the file ends before the JSON array does'],
    ['something behind an array', '[{"text":"a"}]\n{"text":"b"}', ': something stands behind the JSON array'],
    ['a broken item', '[{"text":"a"},\n {"text" 1}]', ' row 2 is not valid JSON: column 9'],
    [
      'an object over several lines',
      '{\n  "text": "a"\n}',
      ' line 1 holds only the beginning of a value: write one row a line, or all rows as one JSON array',
    ],
    ['a line that is too long', `{"text":"a"}\n${'x'.repeat(9 * 2 ** 20)}`, ' line 2 has more than 8 MB'],
    ['an item that is too long', `[{"text":"a"},"${'x'.repeat(9 * 2 ** 20)}"]`, ' row 2 has more than 8 MB'],
    ['null', 'null', 'found null'],
    ['other keys', '{"question":"a","answer":"b"}', 'or "text", found "question", "answer"'],
    [
      'half of the keys',
      '{"instruction":"a","text":null}',
      'key "output": expected string, received undefined',
    ],
    ['no keys', '{}', 'found none'],
    ['a wrong key', '{"prompts":"a","source":"b"}', 'did you mean "prompt"?'],
    [
      'two kinds in a row',
      '{"text":"a","prompt":"b","completion":"c"}',
      ' line 1 is several rows in one: it has "prompt" and "completion", and "text"; leave one out',
    ],
    [
      'an unknown weight',
      `{"messages":[{"role":"user","content":"a","weight":2}]}`,
      'messages.0.weight": expected 0 or 1',
    ],
    [
      'a train that is no switch',
      `{"messages":[{"role":"user","content":"a","train":"no"}]}`,
      'expected true or false',
    ],
    [
      "a turn to learn that is the user's",
      `{"messages":[{"role":"user","content":"a","train":true}]}`,
      'messages.0.train": only turns of the assistant are learned',
    ],
    [
      'a speaker it does not know',
      '{"conversations":[{"from":"me","value":"a"}]}',
      'key "conversations.0.from": expected one of',
    ],
    [
      'earlier turns of an instruction',
      '{"instruction":"a","output":"b","history":[["c","d"]]}',
      'write the row as messages',
    ],
    ['no completion', '{"prompt":"b"}', ' line 1: key "completion": expected string, received undefined'],
    ['a number', '{"text":1}', ' line 1: key "text": expected string, received number'],
    ['no turns', '{"messages":[]}', ' line 1: key "messages"'],
    ['a wrong role', '{"messages":[{"role":"human","content":"a"}]}', ' line 1: key "messages.0.role"'],
    [
      'content in parts',
      '{"messages":[{"role":"user","content":[{"type":"text"}]}]}',
      'key "messages.0.content"',
    ],
    [
      'no content',
      '{"messages":[{"role":"user","content":null}]}',
      'key "messages.0.content": expected string, received null',
    ],
    [
      'arguments that are no object',
      `{"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"[1]"}}]}]}`,
      ' line 1: key "messages.1.tool_calls.0.function.arguments": expected the text of a JSON object, found [1]',
    ],
    [
      'mixed kinds',
      '{"text":"a"}\n\n{"prompt":"b","completion":"c"}',
      ' line 3 is a row of completion, line 1 one of text',
    ],
  ])('refuses %s', async (_, content, message) => {
    const error = await read(content).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toContain(join(folder, 'train.jsonl'));
    expect(String(error)).toContain(message);
  });

  it('refuses a file that is not there', async () => {
    await expect(readRows(join(folder, 'none.jsonl'))).rejects.toThrow(/cannot read .*none\.jsonl/);
  });

  it('gives rows or a UserError, whatever the bytes', async () => {
    const piece = fc.constantFrom(
      '{"text":"a"}',
      '\n',
      '\r\n',
      '{',
      '}',
      '"',
      '\ufeff',
      'null',
      '{"prompt":"',
      '[',
      '\u0000',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 8 }), async (pieces) => {
        const result = await read(pieces.join('')).catch((thrown: unknown) => thrown);
        if (!Array.isArray(result)) expect(result).toBeInstanceOf(UserError);
      }),
      { numRuns: 200 },
    );
  });
});

describe('values that nest very deep', () => {
  const depth = 100_000;
  const objects = `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
  const arrays = '['.repeat(depth) + ']'.repeat(depth);
  const turn = (more: string) => `{"messages":[{"role":"user","content":"a"},{"role":"assistant",${more}}]}`;
  const call = `"content":"b","tool_calls":[{"function":{"name":"f","arguments":${JSON.stringify(objects)}}}]`;

  it.each([
    ['a.jsonl', `{"messages":${arrays}}\n`, 'line 1'],
    ['b.jsonl', turn(`"content":${objects}`), 'line 1'],
    ['c.json', `[${turn(`"content":${arrays}`)}]`, 'row 1'],
    ['d.jsonl', turn(call), 'line 1: key "messages.1.tool_calls.0.function.arguments"'],
    ['e.csv', `messages\n"${objects.replaceAll('"', '""')}"\n`, 'line 2, column "messages"'],
  ])('are refused in %s', async (name, content, place) => {
    const file = join(folder, name);
    writeFileSync(file, content);
    await expect(readRows(file)).rejects.toThrow(UserError);
    await expect(readRows(file)).rejects.toThrow(`${file} ${place}`);
    await expect(readRows(file)).rejects.toThrow('nests objects and arrays deeper than 200');
  });
});

describe('rows as other tools write them', () => {
  it('gives the text of content in parts', async () => {
    const content = [
      { type: 'text', text: 'Hello ' },
      { type: 'text', text: 'there.' },
    ];
    const messages = [{ role: 'user', content }];
    expect(rowsFrom([{ messages }], TEXT_FORMS)).toMatchObject([
      { messages: [{ role: 'user', content: 'Hello there.' }] },
    ]);
    const image = { role: 'user', content: [{ type: 'image_url', image_url: 'x' }] };
    expect(() => rowsFrom([{ messages: [image] }], TEXT_FORMS)).toThrow(
      'key "messages.0.content": expected parts as {"type": "text", "text": "..."}, found one of type "image_url"',
    );
  });
});

describe('rowsFrom', () => {
  it('checks what is in memory, and names the row', () => {
    expect(rowsFrom([{ text: 'a' }], TEXT_FORMS)).toEqual([{ kind: 'text', line: 1, text: 'a' }]);
    expect(() => rowsFrom([{ text: 'a' }, 7], TEXT_FORMS, 'rows')).toThrow('rows row 2: expected');
    expect(() => rowsFrom([], TEXT_FORMS)).toThrow('the data has no rows');
  });

  it('refuses what nests without end', () => {
    const user = { role: 'user', content: 'a' };
    let deep: object = {};
    for (let i = 0; i < 100_000; i++) deep = { deep };
    const circle: Record<string, unknown> = {};
    circle.circle = circle;
    for (const more of [{ more: deep }, { more: circle }, { content: [deep] }]) {
      expect(() => rowsFrom([{ messages: [{ ...user, ...more }] }], TEXT_FORMS)).toThrow(
        'the data row 1 nests objects and arrays deeper than 200',
      );
    }
  });
});
