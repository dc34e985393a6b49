/** The items of a file that is one JSON array, without holding the file. */
import type { FileHandle } from 'node:fs/promises';
import { UserError } from '../../base/errors.js';
import { readFully } from '../../formats/io/node.js';
import { type Found, Pieces, tooLong } from './chunks.js';

const [QUOTE, COMMA, BACKSLASH] = [0x22, 0x2c, 0x5c];
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d];
/** A byte order mark counts as blank in front. */
const BLANKS: ReadonlySet<number> = new Set([0x09, 0x0a, 0x0d, 0x20, 0xef, 0xbb, 0xbf]);
const HEAD_BYTES = 2 ** 12;

/** Whether the first thing in a file is the bracket that opens an array. */
export async function startsArray(file: FileHandle, path: string, size: number): Promise<boolean> {
  const head = new Uint8Array(Math.min(size, HEAD_BYTES));
  await readFully(file, path, head, 0);
  return head.find((byte) => !BLANKS.has(byte)) === OPEN_BRACKET;
}

/** Where in the file one stands. */
type Place = 'before' | 'in' | 'behind';

/** The bytes of each item, those that end in one chunk together. Throws UserError where the array does not end or go on. */
export async function* itemsOf(chunks: AsyncIterable<Buffer>, path: string): AsyncGenerator<Found[]> {
  let place = 'before' as Place;
  let at = 1;
  /** Of brackets inside the item. */
  let depth = 0;
  let inString = false;
  let escaped = false;
  let filled = false;
  const item = new Pieces(() => tooLong(`${path} row ${at}`));
  for await (const chunk of chunks) {
    const found: Found[] = [];
    let start = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i];
      if (inString) {
        if (escaped) escaped = false;
        else if (byte === BACKSLASH) escaped = true;
        else if (byte === QUOTE) inString = false;
        continue;
      }
      if (BLANKS.has(byte)) continue;
      if (place === 'behind') throw new UserError(`${path}: something stands behind the JSON array`);
      if (place === 'before') {
        place = 'in';
        start = i + 1;
      } else if (depth === 0 && (byte === COMMA || byte === CLOSE_BRACKET)) {
        item.add(chunk.subarray(start, i));
        const bytes = item.take();
        if (filled) found.push({ at, bytes });
        else if (byte === COMMA || at > 1)
          throw new UserError(`${path} row ${at}: expected a row, found nothing`);
        [start, filled] = [i + 1, false];
        at++;
        if (byte === CLOSE_BRACKET) place = 'behind';
      } else {
        filled = true;
        if (byte === QUOTE) inString = true;
        else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++;
        else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth--;
      }
    }
    if (place === 'in') item.add(chunk.subarray(start));
    yield found;
  }
  if (place !== 'behind') throw new UserError(`${path} row ${at}: the file ends before the JSON array does`);
}
