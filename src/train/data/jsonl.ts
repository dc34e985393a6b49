/** JSONL: one JSON object a line. */
import type { FileHandle } from 'node:fs/promises';
import { messageOf, UserError } from '../../base/errors.js';
import { decodeUtf8, parseJsonText } from '../../formats/io/json.js';
import { fileError, streamFile } from '../../formats/io/node.js';
import { type Row, RowChecker } from './row.js';

/** A longer line or record is no row of text but some other file. */
export const MAX_LINE_BYTES = 64 * 2 ** 20;
const CHUNK_BYTES = 2 ** 16;

/** Told how many bytes of a file's `total` are behind the rows that were read, nearly. */
export type OnBytes = (done: number, total: number) => void;

/** The rows of a JSONL file, read a piece at a time. A byte order mark, CRLF and blank lines are let be. */
export function jsonlRows(path: string, onBytes?: OnBytes): AsyncGenerator<Row, void, void> {
  return streamFile(path, async function* (file, size) {
    const rows = new RowChecker(path, 'line');
    let line = 0;
    for await (const bytes of linesOf(
      chunksOf(file, path, (done) => onBytes?.(done, size)),
      path,
    )) {
      line++;
      const text = decodeUtf8(rows.place(line), bytes).trim();
      if (text !== '') yield rows.check(parseLine(rows.place(line), text), line);
    }
    rows.finish();
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

/** The bytes of an open file, a piece at a time. Tells of how many there were, once the last piece is done with. */
export async function* chunksOf(
  file: FileHandle,
  path: string,
  onBytes: (done: number) => void,
): AsyncGenerator<Buffer> {
  for (let done = 0; ; onBytes(done)) {
    const { buffer, bytesRead } = await file
      .read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES)
      .catch((error: unknown) => {
        throw fileError('read', path, error);
      });
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    done += bytesRead;
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
