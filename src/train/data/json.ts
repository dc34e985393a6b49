/** Rows in JSON: one object a line (JSONL), or one array of objects. */
import { messageOf, UserError } from '../../base/errors.js';
import { parseExactJson } from '../../formats/io/exactJson.js';
import { decodeUtf8 } from '../../formats/io/json.js';
import { streamFile } from '../../formats/io/node.js';
import { EXACT_KEYS } from '../../formats/messages.js';
import { chunksOf, type Found, type OnBytes, Pieces, tooLong } from './chunks.js';
import type { Content, Forms } from './form.js';
import { itemsOf, startsArray } from './jsonArray.js';
import { type Row, RowChecker } from './row.js';

/**
 * The rows of a file of JSON, read a piece at a time: an array where it begins with one, else a row a line. A byte order
 * mark, CRLF and blank lines are let be.
 */
export function jsonRows<C extends Content>(
  path: string,
  forms: Forms<C>,
  onBytes?: OnBytes,
): AsyncGenerator<Row<C>, void, void> {
  return streamFile(path, async function* (file, size) {
    const chunks = () => chunksOf(file, path, (done) => onBytes?.(done, size));
    const isArray = await startsArray(file, path, size);
    const rows = new RowChecker(forms, path, isArray ? 'row' : 'line');
    for await (const found of isArray ? itemsOf(chunks(), path) : linesOf(chunks(), path)) {
      for (const { at, bytes } of found) {
        const text = decodeUtf8(rows.place(at), bytes).trim();
        if (text !== '') yield rows.check(parsed(rows.place(at), text, isArray), at);
      }
    }
    rows.finish();
  });
}

function parsed(place: string, text: string, isArray: boolean): unknown {
  try {
    return parseExactJson(place, text, EXACT_KEYS);
  } catch (error) {
    // The place says which line it is.
    const message = messageOf(error).replace(/: line 1, (?=column \d+$)/, ': ');
    const cut = !isArray && /[[{,:]$/.test(text);
    throw new UserError(
      cut
        ? `${place} holds only the beginning of a value: write one row a line, or all rows as one JSON array`
        : message,
    );
  }
}

const [TAB, NEWLINE, RETURN, BLANK] = [0x09, 0x0a, 0x0d, 0x20];
const isBlank = (byte: number) => byte === BLANK || byte === RETURN || byte === TAB;

/** The lines that are not blank, without their newline, those of each chunk together. */
async function* linesOf(chunks: AsyncIterable<Buffer>, path: string): AsyncGenerator<Found[]> {
  const line = new Pieces(() => tooLong(`${path} line ${at}`));
  let at = 1;
  for await (const chunk of chunks) {
    const found: Found[] = [];
    let start = 0;
    let blank = line.length === 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i];
      if (byte !== NEWLINE) {
        blank &&= isBlank(byte);
        continue;
      }
      if (!blank) {
        line.add(chunk.subarray(start, i));
        found.push({ at, bytes: line.take() });
      }
      start = i + 1;
      blank = true;
      at++;
    }
    if (!blank) line.add(chunk.subarray(start));
    yield found;
  }
  if (line.length > 0) yield [{ at, bytes: line.take() }];
}
