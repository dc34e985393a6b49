/** Locks between processes, as files whose names say who holds them: what a dead process held is free. */
import { rm, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileError } from './node.js';
import { markOf, self } from './owner.js';
import { begun, ended, isLeft, type Staged, stagedIn, stagedPath } from './staging.js';

/** How often a lock is touched, so that other machines see that its process lives. */
const TOUCH_MS = 30_000;
/** Two that try at once both give way, and try again after a time that differs. */
const TRIES = 5;
const PAUSE_MS = 60;

/** A lock that this process holds. */
export class Lock {
  private readonly timer: NodeJS.Timeout;

  private constructor(private readonly path: string) {
    this.timer = setInterval(() => {
      const now = new Date();
      utimes(path, now, now).catch(() => {});
    }, TOUCH_MS).unref();
  }

  /**
   * Takes the lock `name` of a folder; returns who holds it where that is somebody else. Throws UserError where the folder
   * cannot be written.
   */
  static async take(folder: string, name: string): Promise<Lock | Staged> {
    for (let tries = 1; ; tries++) {
      const lock = await Lock.attempt(folder, name);
      if (lock instanceof Lock || tries === TRIES) return lock;
      await sleep(PAUSE_MS * tries * (0.5 + Math.random()));
    }
  }

  /** Takes the lock once nobody else holds it; `onWait` is told once where that takes a while. */
  static async wait(folder: string, name: string, onWait: () => void, signal?: AbortSignal): Promise<Lock> {
    for (let waits = 0; ; waits++) {
      signal?.throwIfAborted();
      if (!(await holderOf(folder, name))) {
        const lock = await Lock.attempt(folder, name);
        if (lock instanceof Lock) return lock;
      }
      // The first time it may have been two that gave way to each other.
      if (waits === 1) onWait();
      await sleep(PAUSE_MS * (1 + 2 * Math.random()));
    }
  }

  private static async attempt(folder: string, name: string): Promise<Lock | Staged> {
    const path = stagedPath(folder, name, 'lock');
    begun(path);
    const text = `process ${self.pid} on ${hostname()} since ${new Date().toISOString()}\n`;
    await writeFile(path, text, { flag: 'wx' }).catch((error: unknown) => {
      ended(path);
      throw fileError('write into', folder, error);
    });
    // Whoever sees another gives way: of two at once at least one sees the other.
    const other = await holderOf(folder, name, path);
    if (!other) return new Lock(path);
    await remove(path);
    return other;
  }

  /** Gives it back. */
  async release(): Promise<void> {
    clearInterval(this.timer);
    await remove(this.path);
  }
}

async function remove(path: string): Promise<void> {
  await rm(path, { force: true }).catch(() => {});
  ended(path);
}

/** Who holds a lock; undefined where it is free, or `own` is the only one. */
export async function holderOf(folder: string, name: string, own?: string): Promise<Staged | undefined> {
  const staged = await stagedIn(folder);
  return staged.find((one) => one.stage === 'lock' && one.what === name && one.path !== own && !isLeft(one));
}

/** "process 123", for a sentence. */
export function describeHolder({ owner }: Staged): string {
  if (markOf(owner) === markOf(self)) return 'this process';
  return `process ${owner.pid}${owner.machine === self.machine ? '' : ' on another machine'}`;
}
