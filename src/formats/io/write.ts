/** Writing files in Node: outputs appear whole or not at all, and nothing is left of what did not come to its end. */
import { mkdirSync, renameSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, realpath, rm, stat } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { UserError } from '../../base/errors.js';
import { Lock } from './lock.js';
import { DiskFullError, exists, fileError, MAX_CALL_BYTES } from './node.js';
import { contentOf, ended, replaceEntries, sweep, temporaryFor } from './staging.js';

/** Appends bytes to the file that is being written. */
export type Write = (bytes: Uint8Array) => Promise<void>;

/**
 * Makes a folder and those above it. (Node's own recursive mkdir never ends where the system says that a folder's parent
 * is missing though it is there, as below /proc.)
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await makeFolders(path);
  } catch (error) {
    throw fileError('make', path, error);
  }
}

async function makeFolders(path: string): Promise<void> {
  const missing: string[] = [];
  for (let at = resolve(path); !(await exists(at)); at = dirname(at)) missing.push(at);
  for (const folder of missing.reverse()) {
    await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
      // Another process was quicker.
      if (error.code !== 'EEXIST') throw error;
    });
  }
  // The system says what it is, if it is no folder.
  await stat(join(path, '/'));
}

/**
 * Writes a file piece by piece under a temporary name beside `path`, then renames it there, replacing a
 * file of that name. When `fill` or the disk fails, the temporary goes and `path` is as it was.
 */
export async function writeStreamAtomic(path: string, fill: (write: Write) => Promise<void>): Promise<void> {
  const temporary = temporaryFor(path);
  let file: FileHandle | undefined;
  try {
    await makeFolders(dirname(path));
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
    renameSync(temporary, path);
    ended(temporary);
  } catch (error) {
    await file?.close().catch(() => {});
    await drop(temporary);
    throw fileError('write', path, error);
  }
  await syncFolder(dirname(path));
}

/** Writes `data` to `path` whole or not at all, replacing a file of that name. Text is written as UTF-8. */
export function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  const bytes = typeof data === 'string' ? Buffer.from(data, 'utf8') : data;
  return writeStreamAtomic(path, (write) => write(bytes));
}

/** Throws UserError when something is at `output`, a folder without content excepted: a long job can refuse early. */
export async function refuseExisting(output: string): Promise<void> {
  if (!(await exists(output)) || (await isEmptyFolder(output))) return;
  throw new UserError(
    `${output} exists already; choose another output, or replace it by the option "overwrite"`,
  );
}

export async function isEmptyFolder(path: string): Promise<boolean> {
  if (!(await stat(path).catch(() => undefined))?.isDirectory()) return false;
  return contentOf(await readdir(path)).length === 0;
}

/**
 * Puts in order what dead processes left at and beside an output, and throws UserError where it cannot be written, so
 * that a long job refuses before its work. Changes nothing else.
 */
export async function prepareOutput(output: string): Promise<void> {
  let folder = resolve(output);
  while (!(await exists(folder))) folder = dirname(folder);
  const info = await stat(folder).catch(() => undefined);
  const isOutput = folder === resolve(output);
  if (isOutput && info?.isDirectory()) await sweep(await realpath(folder));
  else if (isOutput) folder = dirname(folder);
  else if (!info?.isDirectory()) throw new UserError(`cannot write ${output}: ${folder} is not a folder`);
  await sweep(dirname(resolve(output)));
  const probe = temporaryFor(join(folder, 'probe'));
  try {
    await (await open(probe, 'wx')).close();
    await drop(probe);
  } catch (error) {
    ended(probe);
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new UserError(`cannot write ${output}: ${folder} takes no files`);
    throw fileError('write', output, error);
  }
}

/**
 * Makes the folder `folder` whole or not at all: `fill` writes into a temporary folder, which is then flushed. It becomes
 * `folder` by a rename, or where that exists (a mounted disk, say) its entries become those of `folder`. With `overwrite`
 * what was in it goes; without, it has to be empty. When `fill` or the disk fails, the temporary goes and an existing
 * folder is as it was.
 */
export async function writeFolderAtomic(
  folder: string,
  fill: (temporary: string) => Promise<void>,
  { overwrite = false }: { overwrite?: boolean } = {},
): Promise<void> {
  let target = resolve(folder);
  await sweep(dirname(target));
  const replaces = await exists(target);
  if (replaces) {
    target = await realpath(target);
    if (!(await stat(target)).isDirectory()) throw new UserError(`${folder} is a file, not a folder`);
    await sweep(target);
    if (!overwrite) await refuseExisting(folder);
    else if (contentOf(await readdir(target)).length > 0) {
      const precious = await whyPrecious(folder);
      if (precious) throw new UserError(precious);
    }
  }
  const temporary = temporaryFor(replaces ? join(target, 'output') : target);
  try {
    await makeFolders(dirname(target));
    mkdirSync(temporary);
    await fill(temporary);
    await syncTree(temporary);
    if (!overwrite && (await exists(target)) && !(await isEmptyFolder(target))) {
      throw new UserError(
        `${folder} was written by another process meanwhile; what this one made is dropped`,
      );
    }
    if (replaces) replaceEntries(target, temporary);
    else renameSync(temporary, target);
    ended(temporary);
  } catch (error) {
    await drop(temporary);
    // What was written inside knows only the temporary name, which tells nobody anything.
    if (error instanceof UserError) {
      const message = error.message.replaceAll(temporary, folder);
      throw error instanceof DiskFullError ? new DiskFullError(message) : new UserError(message);
    }
    throw fileError('write', folder, error);
  }
  await syncFolder(dirname(target));
}

/**
 * Makes an entry of a cache unless it is there. Of several processes at once one makes it and the others wait for that,
 * and make it themselves where it dies; `onWait` is told once. `make` writes the folder or file whole or not at all.
 */
export async function makeOnce(
  entry: string,
  make: () => Promise<void>,
  { onWait = () => {}, signal }: { onWait?: () => void; signal?: AbortSignal } = {},
): Promise<void> {
  const [cache, name] = [dirname(entry), relative(dirname(entry), entry)];
  await sweep(cache);
  if (await exists(entry)) return;
  await makeFolder(cache);
  const lock = await Lock.wait(cache, name, onWait, signal);
  try {
    if (!(await exists(entry))) await make();
  } finally {
    await lock.release();
  }
}

/** A folder among the system's temporary ones, until its process removes it or ends. */
export class TemporaryFolder {
  private constructor(
    readonly path: string,
    private readonly lock: Lock,
  ) {}

  static async make(what: string): Promise<TemporaryFolder> {
    await sweep(tmpdir());
    const path = temporaryFor(join(tmpdir(), what));
    await makeFolder(path);
    // It is touched again and again: on a shared disk others see that the folder is in use.
    const lock = await Lock.take(path, 'use');
    return new TemporaryFolder(path, lock as Lock);
  }

  async remove(): Promise<void> {
    await this.lock.release();
    await drop(this.path);
  }
}

/**
 * Why an existing folder is not to be overwritten whatever is in it: "." or "~" would delete far more than an earlier
 * output. Undefined where it may be.
 */
export async function whyPrecious(folder: string): Promise<string | undefined> {
  const target = await realpath(folder);
  const precious = [process.cwd(), homedir()].find((path) => isInside(path, target));
  return precious && `${folder} holds ${precious} and is not overwritten; choose another output folder`;
}

function isInside(path: string, folder: string): boolean {
  const inside = relative(folder, path);
  return inside === '' || (inside.split(/[\\/]/)[0] !== '..' && !isAbsolute(inside));
}

/** Whether a path is or would be in a folder, or is it, links resolved; false where there is no such folder. */
export async function isWithin(path: string, folder: string): Promise<boolean> {
  if (!(await stat(folder).catch(() => undefined))?.isDirectory()) return false;
  let at = resolve(path);
  while (!(await exists(at))) at = dirname(at);
  // What is not there yet is under the nearest folder that is.
  const inside = await realpath(at).catch(() => at);
  return isInside(join(inside, relative(at, resolve(path))), await realpath(folder));
}

async function drop(temporary: string): Promise<void> {
  await rm(temporary, { recursive: true, force: true }).catch(() => {});
  ended(temporary);
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
