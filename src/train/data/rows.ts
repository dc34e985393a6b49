/** Rows of training data: one JSON object a line, of one of three kinds. */
import type { FileHandle } from 'node:fs/promises';
import * as z from 'zod';
import { messageOf, nearest, UserError } from '../../base/errors.js';
import type { ChatMessage } from '../../formats/chat.js';
import { checkJson, decodeUtf8, parseJsonText } from '../../formats/io/json.js';
import { fileError, withFile } from '../../formats/io/node.js';

/** A row that was checked. `line` counts from 1: lines of a file, or items of an array. */
export type Row =
  | { kind: 'messages'; line: number; messages: readonly ChatMessage[]; tools?: readonly unknown[] }
  | { kind: 'completion'; line: number; prompt: string; completion: string }
  | { kind: 'text'; line: number; text: string };

/** A longer line is no row of text but some other file. */
const MAX_LINE_BYTES = 64 * 2 ** 20;
const CHUNK_BYTES = 2 ** 20;

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool', 'function', 'ipython'] as const;

const message = z.looseObject({
  role: z.enum(ROLES),
  content: z.string().nullable(),
});
const schemas = {
  messages: z.looseObject({ messages: z.array(message).min(1), tools: z.array(z.unknown()).optional() }),
  completion: z.looseObject({ prompt: z.string(), completion: z.string() }),
  text: z.looseObject({ text: z.string() }),
};
const KINDS: Record<string, Row['kind']> = {
  messages: 'messages',
  prompt: 'completion',
  completion: 'completion',
  text: 'text',
};
const EXPECTED = 'expected {"messages": [...]}, {"prompt": ..., "completion": ...} or {"text": ...}';

/** Checks one parsed row. Keys beside those of its kind (an id, a source) are let be. */
function rowOf(value: unknown, line: number, place: string): Row {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UserError(`${place}: ${EXPECTED}, found ${describe(value)}`);
  }
  const keys = Object.keys(value);
  const kinds = new Set(keys.flatMap((key) => (Object.hasOwn(KINDS, key) ? KINDS[key] : [])));
  if (kinds.size !== 1) {
    const guess = keys.map((key) => nearest(key, Object.keys(KINDS))).find((name) => name !== undefined);
    const hint = kinds.size === 0 && guess !== undefined ? `, did you mean "${guess}"?` : '';
    throw new UserError(`${place}: ${EXPECTED}, found the keys ${JSON.stringify(keys.slice(0, 8))}${hint}`);
  }
  const [kind] = kinds;
  switch (kind) {
    case 'messages': {
      const { messages, tools } = checkJson(place, value, schemas.messages);
      const silent = messages.findIndex((turn) => turn.content === null && turn.tool_calls === undefined);
      if (silent !== -1) {
        throw new UserError(`${place}: key "messages.${silent}.content": expected string, received null`);
      }
      return tools === undefined ? { kind, line, messages } : { kind, line, messages, tools };
    }
    case 'completion': {
      const { prompt, completion } = checkJson(place, value, schemas.completion);
      return { kind, line, prompt, completion };
    }
    case 'text':
      return { kind, line, text: checkJson(place, value, schemas.text).text };
  }
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`;
}

/** Rows of one source, all of one kind and at least one. */
class RowList {
  readonly rows: Row[] = [];

  constructor(
    private readonly source: string,
    private readonly unit: 'line' | 'row',
  ) {}

  place(line: number): string {
    return `${this.source} ${this.unit} ${line}`;
  }

  add(value: unknown, line: number): void {
    const row = rowOf(value, line, this.place(line));
    const first = this.rows.at(0) ?? row;
    if (row.kind !== first.kind) {
      throw new UserError(
        `${this.place(line)} is a row of ${row.kind}, ${this.unit} ${first.line} one of ${first.kind}: ` +
          'one data set has rows of one kind',
      );
    }
    this.rows.push(row);
  }

  finish(): Row[] {
    if (this.rows.length === 0) throw new UserError(`${this.source} has no rows`);
    return this.rows;
  }
}

/** Checks rows that are in memory already. Throws UserError that names `source` and the row, from 1. */
export function rowsFrom(values: Iterable<unknown>, source = 'the data'): Row[] {
  const list = new RowList(source, 'row');
  let line = 0;
  for (const value of values) list.add(value, ++line);
  return list.finish();
}

/**
 * Reads a JSONL file, a piece at a time. A byte order mark, CRLF and blank lines are let be.
 * @throws UserError that names the file and the line, and says what was expected there; when no row is left;
 * when rows are of more than one kind.
 */
export function readRows(path: string): Promise<Row[]> {
  return withFile(path, async (file) => {
    const list = new RowList(path, 'line');
    let line = 0;
    for await (const bytes of linesOf(chunksOf(file, path), path)) {
      line++;
      const text = decodeUtf8(list.place(line), bytes).trim();
      if (text !== '') list.add(parseLine(list.place(line), text), line);
    }
    return list.finish();
  });
}

function parseLine(place: string, text: string): unknown {
  try {
    return parseJsonText(place, text);
  } catch (error) {
    // The place says which line it is.
    throw new UserError(messageOf(error).replace(/: line 1, (?=column \d+$)/, ': '));
  }
}

async function* chunksOf(file: FileHandle, path: string): AsyncGenerator<Buffer> {
  while (true) {
    const { buffer, bytesRead } = await file
      .read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES)
      .catch((error: unknown) => {
        throw fileError('read', path, error);
      });
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

const NEWLINE = 10;

/** The lines without their newline. */
async function* linesOf(chunks: AsyncIterable<Buffer>, path: string): AsyncGenerator<Uint8Array> {
  let rest = Buffer.alloc(0);
  let line = 1;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      yield Buffer.concat([rest, chunk.subarray(start, end)]);
      rest = Buffer.alloc(0);
      start = end + 1;
      line++;
    }
    rest = Buffer.concat([rest, chunk.subarray(start)]);
    if (rest.length > MAX_LINE_BYTES) {
      throw new UserError(`${path} line ${line} has more than ${MAX_LINE_BYTES / 2 ** 20} MB`);
    }
  }
  if (rest.length > 0) yield rest;
}
