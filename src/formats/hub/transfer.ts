/** The transfer of one file into the cache's blobs: goes on where it was cut, and is checked by size and hash. */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '../../base/errors.js';
import { bytesText } from '../../base/text.js';
import { fileError } from '../io/node.js';
import { isWhole } from './cache.js';
import { HubUnreachable, networkReason } from './http.js';
import { PartialFile } from './partial.js';
import type { RemoteFile } from './repository.js';

export interface Transfer {
  /** How errors name the file. */
  place: string;
  url: string;
  file: RemoteFile;
  /** Folder of the blobs. */
  blobs: string;
  /** The blob's path. */
  target: string;
  fetch: typeof fetch;
  /** Told how many bytes of the file are there, after each piece. */
  onBytes: (bytes: number) => void;
  /** Told when another process is at the same file, and is waited for. */
  onWait: () => void;
  /** Before the second try in a row; doubled from try to try. */
  pauseMs: number;
}

/** Tries in a row that brought no byte. */
const MAX_TRIES = 5;
const STALLED_MS = 30_000;
const POLL_MS = 200;
const READ_BYTES = 1 << 20;

/**
 * Fetches a file unless its blob is there. Interrupted in whatever way, it leaves what came for the next call, here or in
 * another process; two at once fetch it once.
 * @throws HubUnreachable after several tries without a byte; UserError for a wrong checksum or a disk that refuses.
 */
export async function fetchBlob(transfer: Transfer): Promise<void> {
  const { target, file, blobs } = transfer;
  if (await isWhole(target, file.size)) return;
  const part = await PartialFile.claim(blobs, file.etag);
  try {
    for (let waits = 0; await part.isSecond(); waits++) {
      if (waits === 0) transfer.onWait();
      await sleep(POLL_MS);
    }
    // Whoever was waited for may have finished between two looks.
    if (await isWhole(target, file.size)) return await part.remove();
    await fill(transfer, part.path);
    await part.finish(target);
  } catch (error) {
    await part.release();
    throw fileError('write', target, error);
  }
}

async function fill(transfer: Transfer, path: string): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    for (const again of [true, false]) {
      const content = await Content.resume(handle, transfer.file);
      const fresh = content.size === 0;
      await complete(transfer, content);
      if (content.isRight()) break;
      await content.restart();
      // What an earlier process left may have been the fault: once more, from the beginning.
      if (again && !fresh) continue;
      throw new UserError(
        `${transfer.place}: what came has another checksum than the hub says (${transfer.file.etag.slice(0, 12)}...); it is not kept`,
      );
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What is in the file so far, and its hash. */
class Content {
  size = 0;
  private hash: Hash;

  private constructor(
    private readonly handle: FileHandle,
    private readonly file: RemoteFile,
  ) {
    this.hash = hashFor(file);
  }

  static async resume(handle: FileHandle, file: RemoteFile): Promise<Content> {
    const content = new Content(handle, file);
    const { size } = await handle.stat();
    if (size > file.size) await content.restart();
    const buffer = new Uint8Array(READ_BYTES);
    while (content.size < Math.min(size, file.size)) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, content.size);
      if (bytesRead === 0) break;
      content.hash.update(buffer.subarray(0, bytesRead));
      content.size += bytesRead;
    }
    return content;
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.handle.write(bytes, done, bytes.length - done, this.size + done);
      done += bytesWritten;
    }
    this.hash.update(bytes);
    this.size += bytes.length;
  }

  async restart(): Promise<void> {
    await this.handle.truncate(0);
    this.size = 0;
    this.hash = hashFor(this.file);
  }

  /** Whether it is the file. Asked once: the hash ends with it. */
  isRight(): boolean {
    return this.size === this.file.size && this.hash.digest('hex') === this.file.etag;
  }
}

/** Large files are named by their SHA-256, the others by git's SHA-1, which hashes the length too. */
function hashFor({ etag, size }: RemoteFile): Hash {
  return etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** Fetches what is left, over as many requests as it takes. */
async function complete(transfer: Transfer, content: Content): Promise<void> {
  const { place, file } = transfer;
  for (let tries = 0; content.size < file.size; ) {
    const before = content.size;
    try {
      await request(transfer, content);
      // An answer that ends early without an error is no progress either, if nothing came.
      tries = content.size > before ? 0 : tries + 1;
      if (tries === MAX_TRIES) throw new HubUnreachable('the answers are empty');
    } catch (error) {
      if (!(error instanceof HubUnreachable)) throw error;
      tries = content.size > before ? 1 : tries + 1;
      if (tries >= MAX_TRIES) {
        throw new HubUnreachable(
          `${place}: stopped at ${bytesText(content.size)} of ${bytesText(file.size)}, ${error.message}; to go on from there do the same again`,
        );
      }
      await sleep(transfer.pauseMs * 2 ** (tries - 1));
    }
  }
}

async function request({ url, fetch, place, file, onBytes }: Transfer, content: Content): Promise<void> {
  const from = content.size;
  const stall = new AbortController();
  let timer = setTimeout(() => stall.abort(), STALLED_MS);
  const response = await fetch(url, {
    signal: stall.signal,
    headers: { 'accept-encoding': 'identity', ...(from > 0 && { range: `bytes=${from}-` }) },
  }).finally(() => clearTimeout(timer));
  if (from > 0 && !continues(response, from)) {
    await content.restart();
    // Of the whole file this answer has the beginning; of another part, nothing of use.
    if (response.status !== 200) {
      await response.body?.cancel();
      return;
    }
  }
  if (response.body === null) return;
  const pieces = response.body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  try {
    for (;;) {
      timer = setTimeout(() => stall.abort(), STALLED_MS);
      const { done, value } = await pieces.next().catch((error: unknown) => {
        throw new HubUnreachable(stall.signal.aborted ? 'nothing came for 30 s' : networkReason(error));
      });
      clearTimeout(timer);
      if (done) return;
      if (content.size + value.length > file.size) {
        await content.restart();
        throw new UserError(`${place}: more came than the ${file.size} bytes that the hub says`);
      }
      await content.append(value);
      onBytes(content.size);
    }
  } finally {
    clearTimeout(timer);
    stall.abort();
  }
}

/** Whether an answer begins at byte `from`; a server without ranges begins at the first. */
function continues(response: Response, from: number): boolean {
  if (response.status !== 206) return false;
  return new RegExp(`^bytes ${from}-`).test(response.headers.get('content-range') ?? '');
}
