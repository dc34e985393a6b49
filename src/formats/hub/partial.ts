/**
 * Files that are still being fetched: HASH.TIME-HOST-PID-RANDOM.incomplete beside the blobs. Each has one owner, told by its
 * name, so that no two processes write into one file; what a dead one left is taken over by renaming it, which succeeds
 * for one taker only. Nothing here has to be right for a blob to be right: that is checked by hash before it is named.
 */
import { createHash, randomBytes } from 'node:crypto';
import { open, readdir, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileError } from '../io/node.js';
import { makeFolder } from '../io/write.js';

const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);
/** Of a file that nobody writes any more, whose process may live. */
const NOBODY = 0;
/** A living owner that wrote nothing for so long is not waited for. */
const STALLED_MS = 60_000;
/** Nor is one of another machine alive after so long: a transfer gives up much sooner. */
const ABANDONED_MS = 600_000;

const NAME = /^([0-9a-f]+)\.([0-9a-z]{9})-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.incomplete$/;

interface Found {
  name: string;
  path: string;
  size: number;
  /** Whether its owner may still write. */
  live: boolean;
  stalled: boolean;
}

/** A part of a blob on disk, this process's own. */
export class PartialFile {
  private constructor(
    private readonly blobs: string,
    private readonly etag: string,
    private readonly name: string,
  ) {}

  get path(): string {
    return join(this.blobs, this.name);
  }

  /** Takes over the longest part that a dead process left, or begins an empty one. */
  static async claim(blobs: string, etag: string): Promise<PartialFile> {
    const name = nameFor(etag, process.pid);
    const path = join(blobs, name);
    const orphans = (await partsOf(blobs, etag)).filter((part) => !part.live);
    for (const { path: orphan } of orphans.sort((a, b) => b.size - a.size)) {
      try {
        await rename(orphan, path);
        return new PartialFile(blobs, etag, name);
      } catch {
        // Another process was faster.
      }
    }
    await makeFolder(blobs);
    try {
      await (await open(path, 'wx')).close();
    } catch (error) {
      throw fileError('write', path, error);
    }
    return new PartialFile(blobs, etag, name);
  }

  /** Whether a process that began earlier is at the same blob. */
  async isSecond(): Promise<boolean> {
    const parts = await partsOf(this.blobs, this.etag);
    return parts.some(({ name, live, stalled }) => live && !stalled && name < this.name);
  }

  /** Leaves it for the next who claims. */
  async release(): Promise<void> {
    await rename(this.path, join(this.blobs, nameFor(this.etag, NOBODY))).catch(() => {});
  }

  /** Names it as what it has become, and drops what dead processes left of the same blob. */
  async finish(target: string): Promise<void> {
    await rename(this.path, target);
    for (const { path, live } of await partsOf(this.blobs, this.etag)) {
      if (!live) await rm(path, { force: true });
    }
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }
}

/** Bytes of a blob that are there for the next who claims. */
export async function bytesLeft(blobs: string, etag: string): Promise<number> {
  return Math.max(0, ...(await partsOf(blobs, etag)).filter(({ live }) => !live).map(({ size }) => size));
}

/** Names sort by the time of the claim. */
function nameFor(etag: string, pid: number): string {
  const time = stamp(Date.now());
  return `${etag}.${time}-${HOST}-${pid}-${randomBytes(4).toString('hex')}.incomplete`;
}

function stamp(ms: number): string {
  return Math.floor(ms).toString(36).padStart(9, '0');
}

async function partsOf(blobs: string, etag: string): Promise<Found[]> {
  const found: Found[] = [];
  for (const name of await readdir(blobs).catch(() => [])) {
    const [, hash, time, host, pid] = NAME.exec(name) ?? [];
    if (hash !== etag) continue;
    const path = join(blobs, name);
    const info = await stat(path).catch(() => undefined);
    if (info === undefined) continue;
    const idle = Date.now() - info.mtimeMs;
    const live = Number(pid) !== NOBODY && (host === HOST ? isAlive(Number(pid), time) : idle < ABANDONED_MS);
    found.push({ name, path, size: info.size, live, stalled: idle > STALLED_MS });
  }
  return found;
}

function isAlive(pid: number, since: string): boolean {
  // A file of this number may be another thread's, or an earlier process's of the same number.
  if (pid === process.pid) return since >= stamp(Date.now() - process.uptime() * 1000);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
