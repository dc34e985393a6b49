/** A file's bytes, a piece at a time, and rows put together out of pieces. */
import type { FileHandle } from 'node:fs/promises';
import { UserError } from '../../base/errors.js';
import { fileError } from '../../formats/io/node.js';

/** A longer line, item or record is no row of text but some other file. */
export const MAX_ROW_BYTES = 8 * 2 ** 20;
const CHUNK_BYTES = 2 ** 16;

/** Told how many bytes of a file's `total` are behind the rows that were read, nearly. */
export type OnBytes = (done: number, total: number) => void;

/** A piece of a file that makes a row: a line, or an item of an array, from 1. */
export interface Found {
  at: number;
  bytes: Uint8Array;
}

/** The bytes of an open file, a piece at a time. Tells of how many there were, once the last piece is done with. */
export async function* chunksOf(
  file: FileHandle,
  path: string,
  onBytes: (done: number) => void,
): AsyncGenerator<Buffer> {
  for (let done = 0; ; onBytes(done)) {
    const { buffer, bytesRead } = await file
      .read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, done)
      .catch((error: unknown) => {
        throw fileError('read', path, error);
      });
    if (bytesRead === 0) return;
    if (done === 0) refuseCompressed(path, buffer.subarray(0, bytesRead));
    yield buffer.subarray(0, bytesRead);
    done += bytesRead;
  }
}

/** How compressed files begin. */
const COMPRESSED: readonly [how: string, start: string][] = [
  ['gzip', '1f8b'],
  ['zstd', '28b52ffd'],
  ['bzip2', '425a68'],
  ['xz', 'fd377a585a00'],
  ['zip', '504b0304'],
];

function refuseCompressed(path: string, bytes: Buffer): void {
  const found = COMPRESSED.find(([, start]) => bytes.subarray(0, start.length / 2).toString('hex') === start);
  if (found) throw new UserError(`${path} is compressed (${found[0]}), which is not read: unpack it first`);
}

/** What to throw where a row is longer than MAX_ROW_BYTES. */
export function tooLong(place: string): UserError {
  return new UserError(
    `${place} has more than ${MAX_ROW_BYTES / 2 ** 20} MB, too long for one row; cut it into several`,
  );
}

/** Bytes of one row, collected until it ends. */
export class Pieces {
  length = 0;
  private pieces: Uint8Array[] = [];

  /** `refusal` makes what is thrown where they become more than a row may have. */
  constructor(private readonly refusal: () => Error) {}

  add(piece: Uint8Array): void {
    this.length += piece.length;
    if (this.length > MAX_ROW_BYTES) throw this.refusal();
    this.pieces.push(piece);
  }

  /** All of them, and begins anew. */
  take(): Uint8Array {
    const bytes = this.pieces.length === 1 ? this.pieces[0] : Buffer.concat(this.pieces);
    this.pieces = [];
    this.length = 0;
    return bytes;
  }
}
