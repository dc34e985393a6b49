/**
 * Files in Node: outputs appear whole or not at all, inputs are read within what the file really holds,
 * and whatever the system refuses becomes one sentence that names the path.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, lstat, mkdir, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import type * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { checkJson, parseJson } from './json.js';

/** One read or write call takes at most this much: Node refuses 2 GiB and more. */
const MAX_CALL_BYTES = 1 << 30;

/** The largest JSON files of models are tokenizers of some 40 MB; V8 holds no string above 512 MB. */
const MAX_JSON_BYTES = 256 * 2 ** 20;

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
  EROFS: 'the disk is read-only',
};

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** What to throw for a failed file operation: a UserError for what the system refused, else `error` itself. */
export function fileError(action: string, path: string, error: unknown): unknown {
  const code = codeOf(error);
  const isSystem = error instanceof Error && 'syscall' in error;
  if (code === undefined || !isSystem) return error;
  return new UserError(`cannot ${action} ${path}: ${REASONS[code] ?? `the system said ${code}`}`);
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

function openToRead(path: string): Promise<FileHandle> {
  return open(path, 'r').catch((error: unknown) => {
    throw fileError('read', path, error);
  });
}

async function sizeOfFile(file: FileHandle, path: string): Promise<number> {
  const info = await file.stat();
  if (!info.isFile()) throw new UserError(`cannot read ${path}: it is not a file`);
  return info.size;
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
  return checkJson(path, parseJson(path, bytes), schema);
}

function temporaryFor(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
}

/** Makes a finished rename survive a power cut, where the system can (Windows cannot open folders). */
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch {
    // The data is written; only its durability is less certain.
  }
}

/** Appends bytes to the file that is being written. */
export type Write = (bytes: Uint8Array) => Promise<void>;

/**
 * Writes a file piece by piece under a temporary name beside `path`, then renames it there, replacing a
 * file of that name. When `fill` or the disk fails, the temporary goes and `path` is as it was.
 */
export async function writeStreamAtomic(path: string, fill: (write: Write) => Promise<void>): Promise<void> {
  const temporary = temporaryFor(path);
  let file: FileHandle | undefined;
  try {
    await mkdir(dirname(path), { recursive: true });
    const handle = await open(temporary, 'wx');
    file = handle;
    await fill(async (bytes) => {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await handle.write(
          bytes,
          done,
          Math.min(bytes.length - done, MAX_CALL_BYTES),
        );
        done += bytesWritten;
      }
    });
    await file.sync();
    await file.close();
    file = undefined;
    await rename(temporary, path);
  } catch (error) {
    await file?.close().catch(() => {});
    await rm(temporary, { force: true }).catch(() => {});
    throw fileError('write', path, error);
  }
  await syncFolder(dirname(path));
}

/** Writes `data` to `path` whole or not at all, replacing a file of that name. Text is written as UTF-8. */
export function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  const bytes = typeof data === 'string' ? Buffer.from(data, 'utf8') : data;
  return writeStreamAtomic(path, (write) => write(bytes));
}

/** Throws UserError when something named `folder` exists, so that a long job can refuse before its work. */
export async function refuseExisting(folder: string): Promise<void> {
  if (await exists(folder)) {
    throw new UserError(`${folder} exists already; choose another output, or ask to overwrite it`);
  }
}

/**
 * Makes the folder `folder` whole or not at all: `fill` writes into a temporary sibling, which is then
 * flushed and renamed. With `overwrite` an existing folder is replaced with all that is in it; without,
 * it is refused. When `fill` or the disk fails, the temporary goes and an existing folder is as it was.
 */
export async function writeFolderAtomic(
  folder: string,
  fill: (temporary: string) => Promise<void>,
  { overwrite = false }: { overwrite?: boolean } = {},
): Promise<void> {
  if (!overwrite) await refuseExisting(folder);
  let target = resolve(folder);
  const replaces = await exists(target);
  if (replaces) {
    target = await realpath(target);
    if (!(await stat(target)).isDirectory()) throw new UserError(`${folder} is a file, not a folder`);
    refusePrecious(folder, target);
  }
  const temporary = temporaryFor(target);
  try {
    await mkdir(dirname(target), { recursive: true });
    await mkdir(temporary);
    await fill(temporary);
    await syncTree(temporary);
    if (replaces) await swap(temporary, target);
    else await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    // What was written inside knows only the temporary name, which tells nobody anything.
    if (error instanceof UserError) throw new UserError(error.message.replaceAll(temporary, folder));
    throw fileError('write', folder, error);
  }
  await syncFolder(dirname(target));
}

/** Overwriting "." or "~" would delete far more than an earlier output. */
function refusePrecious(named: string, target: string): void {
  for (const precious of [process.cwd(), homedir()]) {
    const inside = relative(target, precious);
    if (!inside.startsWith('..') && !isAbsolute(inside)) {
      throw new UserError(`${named} holds ${precious} and is not overwritten; choose another output folder`);
    }
  }
}

async function swap(fresh: string, target: string): Promise<void> {
  const old = temporaryFor(target);
  await rename(target, old);
  try {
    await rename(fresh, target);
  } catch (error) {
    await rename(old, target);
    throw error;
  }
  await rm(old, { recursive: true, force: true });
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) {
      const file = await open(path, 'r+');
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    }
  }
  await syncFolder(folder);
}
