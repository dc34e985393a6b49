/**
 * Reading files in Node: within what the file really holds. Whatever the system refuses, here and in write.ts, becomes
 * one sentence that names the path.
 */
import { createHash } from 'node:crypto';
import { constants, type FileHandle, lstat, open } from 'node:fs/promises';
import type * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { checkJson, parseJson } from './json.js';
import { refuseLfsPointer } from './lfs.js';

/** One read or write call takes at most this much: Node refuses 2 GiB and more. */
export const MAX_CALL_BYTES = 1 << 30;

/** The largest JSON files of models are tokenizers of some 40 MB; V8 holds no string above 512 MB. */
const MAX_JSON_BYTES = 256 * 2 ** 20;

/** A file is hashed in pieces of this many bytes. */
const HASH_BYTES = 1 << 20;

const REASONS: Record<string, string> = {
  EACCES: 'permission denied',
  EBUSY: 'it is in use',
  EDQUOT: 'the disk quota is used up',
  EEXIST: 'it exists already',
  EFBIG: 'the file would be too large for the disk',
  EIO: 'the disk reported an error',
  EISDIR: 'it is a folder',
  ELOOP: 'its symbolic links go in a circle',
  EMFILE: 'too many files are open',
  ENAMETOOLONG: 'the name is too long',
  ENOENT: 'there is no such file or folder',
  ENOSPC: 'the disk is full',
  ENOTDIR: 'a part of the path is not a folder',
  ENOTEMPTY: 'the folder is not empty',
  EPERM: 'the system does not permit it',
  ENXIO: 'it is a socket or a device, not a regular file',
  EROFS: 'the disk is read-only',
};

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** A disk that takes no more: whatever writes next fails too. */
export class DiskFullError extends UserError {}

/** What to throw for a failed file operation: a UserError for what the system refused, else `error` itself. */
export function fileError(action: string, path: string, error: unknown): unknown {
  const code = codeOf(error);
  const isSystem = error instanceof Error && 'syscall' in error;
  if (code === undefined || !isSystem) return error;
  const message = `cannot ${action} ${path}: ${REASONS[code] ?? `the system said ${code}`}`;
  return ['ENOSPC', 'EDQUOT'].includes(code) ? new DiskFullError(message) : new UserError(message);
}

/** Whether anything (a broken link too) has that name. */
export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch {
    return false;
  }
}

/** What can be read at any position: an open file, or bytes in memory. */
export interface ByteSource {
  read(target: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
}

/** Fills `target` from byte `position` of an open file. Throws UserError when the file ends before. */
export async function readFully(
  file: ByteSource,
  path: string,
  target: Uint8Array,
  position: number,
): Promise<void> {
  let done = 0;
  while (done < target.length) {
    const want = Math.min(target.length - done, MAX_CALL_BYTES);
    const { bytesRead } = await file.read(target, done, want, position + done).catch((error: unknown) => {
      throw fileError('read', path, error);
    });
    if (bytesRead === 0) {
      throw new UserError(
        `${path} ends at byte ${position + done}, where ${target.length - done} more bytes should be`,
      );
    }
    done += bytesRead;
  }
}

/** Opens a file for reading, passes it to `use` with its size, and closes it. Throws UserError when it cannot. */
export async function withFile<T>(
  path: string,
  use: (file: FileHandle, size: number) => Promise<T>,
): Promise<T> {
  const file = await openToRead(path);
  try {
    return await use(file, await sizeOfFile(file, path));
  } finally {
    await file.close();
  }
}

/** As withFile, for what is read piece by piece: the file is closed when nobody asks for more. */
export async function* streamFile<T>(
  path: string,
  use: (file: FileHandle, size: number) => AsyncIterable<T>,
): AsyncGenerator<T, void, void> {
  const file = await openToRead(path);
  try {
    yield* use(file, await sizeOfFile(file, path));
  } finally {
    await file.close();
  }
}

/** Opening a pipe that nobody writes to would wait for ever; so it is opened without waiting, and refused by what it is. */
const READ_AT_ONCE = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

function openToRead(path: string): Promise<FileHandle> {
  return open(path, READ_AT_ONCE).catch((error: unknown) => {
    throw fileError('read', path, error);
  });
}

async function sizeOfFile(file: FileHandle, path: string): Promise<number> {
  const info = await file.stat();
  if (info.isDirectory()) throw new UserError(`cannot read ${path}: it is a folder`);
  if (!info.isFile())
    throw new UserError(`cannot read ${path}: it is a pipe or a device, not a regular file`);
  return info.size;
}

/** The whole of a file that fits in memory. Throws UserError where it cannot be read. */
export function readBytes(path: string): Promise<Uint8Array> {
  return withFile(path, async (file, size) => {
    const target = new Uint8Array(size);
    await readFully(file, path, target, 0);
    return target;
  });
}

/** The same as text. */
export async function readText(path: string): Promise<string> {
  return new TextDecoder().decode(await readBytes(path));
}

/** Fills `target` from byte `position` of the file at `path`. */
export function readInto(path: string, target: Uint8Array, position: number): Promise<void> {
  return withFile(path, (file) => readFully(file, path, target, position));
}

/**
 * Reads a JSON file and checks it.
 * @throws UserError that names the file and the key, what was expected there, and for a key that a strict
 * schema does not know the nearest one that it does.
 */
export async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  const bytes = await withFile(path, async (file, size) => {
    if (size > MAX_JSON_BYTES)
      throw new UserError(`${path} has ${size} bytes, more than a JSON file may have`);
    const target = new Uint8Array(size);
    await readFully(file, path, target, 0);
    return target;
  });
  refuseLfsPointer(path, bytes);
  return checkJson(path, parseJson(path, bytes), schema);
}

/** The SHA-256 of a file's bytes. Throws UserError where it cannot be read. */
export function sha256Of(path: string): Promise<string> {
  return withFile(path, async (file, size) => {
    const hash = createHash('sha256');
    const buffer = new Uint8Array(Math.min(size, HASH_BYTES));
    for (let at = 0; at < size; at += HASH_BYTES) {
      const piece = buffer.subarray(0, Math.min(HASH_BYTES, size - at));
      await readFully(file, path, piece, at);
      hash.update(piece);
    }
    return hash.digest('hex');
  });
}
