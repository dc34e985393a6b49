/** A row of training data, of one of three kinds, and how one is checked. */
import * as z from 'zod';
import { nearest, UserError } from '../../base/errors.js';
import type { ChatMessage } from '../../formats/chat.js';
import { checkJson } from '../../formats/io/json.js';
import { checkConversation } from '../../formats/messages.js';

/** A row that was checked. `line` counts from 1: lines of a file, or items of an array. */
export type Row =
  | { kind: 'messages'; line: number; messages: readonly ChatMessage[]; tools?: readonly unknown[] }
  | { kind: 'completion'; line: number; prompt: string; completion: string }
  | { kind: 'text'; line: number; text: string };

const schemas = {
  completion: z.looseObject({ prompt: z.string(), completion: z.string() }),
  text: z.looseObject({ text: z.string() }),
};
/** The kind of row that a key or column belongs to. */
export const KINDS: Readonly<Record<string, Row['kind']>> = {
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
    case 'messages':
      return { kind, line, ...checkConversation(place, value) };
    case 'completion': {
      const { prompt, completion } = checkJson(place, value, schemas.completion);
      return { kind, line, prompt, completion };
    }
    case 'text':
      return { kind, line, text: checkJson(place, value, schemas.text).text };
  }
}

/** What a value is, for errors. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`;
}

/** Checks the rows of one source as they come: all of one kind, and at least one. */
export class RowChecker {
  private first: Row | undefined;

  constructor(
    readonly source: string,
    private readonly unit: 'line' | 'row',
  ) {}

  place(line: number): string {
    return `${this.source} ${this.unit} ${line}`;
  }

  check(value: unknown, line: number): Row {
    const row = rowOf(value, line, this.place(line));
    this.first ??= row;
    if (row.kind !== this.first.kind) {
      throw new UserError(
        `${this.place(line)} is a row of ${row.kind}, ${this.unit} ${this.first.line} one of ${this.first.kind}: ` +
          'one data set has rows of one kind',
      );
    }
    return row;
  }

  /** To be called behind the last row. */
  finish(): void {
    if (!this.first) throw new UserError(`${this.source} has no rows`);
  }
}
