import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { UserError } from '../../base/errors.js';
import { holdExit, newNativeLock } from './nativeLock.js';
import type { Feeds } from './session.js';
import type { Reply, Request } from './worker.js';

/** The engine's thread. It takes one request at a time, and does not keep the process alive by itself. */
export class EngineThread {
  private readonly worker: Worker;
  private readonly exited: Promise<void>;
  private pending:
    | { feeds?: Feeds; resolve: (outputs: Feeds) => void; reject: (error: Error) => void }
    | undefined;
  private back: { promise: Promise<void>; resolve: () => void } | undefined;
  /** Why it ended by itself. */
  private why: string | undefined;
  private ended = false;

  constructor() {
    const lock = newNativeLock();
    this.worker = new Worker(workerFile(), {
      name: 'lowrank engine',
      workerData: lock,
      // The program's own flags are not for it: with -e or --input-type it would not even start.
      execArgv: [],
    });
    const letExit = holdExit(lock);
    this.worker.on('message', (reply: Reply) => this.settle(reply));
    this.worker.on('error', (error) => {
      this.why = error.message;
    });
    this.exited = new Promise((resolve) => {
      this.worker.on('exit', (code) => {
        letExit();
        this.ended = true;
        this.why ??= `its thread ended with code ${code}`;
        this.fail();
        resolve();
      });
    });
    this.worker.unref();
  }

  /** Whether it can be asked. */
  get alive(): boolean {
    return !this.ended;
  }

  /** While tensors are lent: resolves as soon as they are back, before whoever lent them goes on. */
  get lending(): Promise<void> | undefined {
    return this.back?.promise;
  }

  /** Asks it, and waits for the answer; `moved` are the buffers that go over instead of copies of them. */
  ask(request: Request, moved: readonly ArrayBuffer[] = []): Promise<Feeds> {
    if (this.pending) throw new Error('the engine takes one request at a time');
    if (this.ended) throw this.stopped();
    return new Promise((resolve, reject) => {
      const feeds = request.kind === 'run' ? request.feeds : undefined;
      this.worker.postMessage(request, [...new Set(moved)]);
      this.pending = { feeds, resolve, reject };
      if (feeds && moved.length > 0) this.back = deferred();
      this.worker.ref();
    });
  }

  /** Frees its sessions and ends it. Only for a thread that nothing is asked of. */
  async end(): Promise<void> {
    if (this.ended) return;
    this.worker.ref();
    this.worker.postMessage({ kind: 'end' } satisfies Request);
    await this.exited;
  }

  private settle(reply: Reply): void {
    const { pending } = this;
    if (!pending) return;
    this.pending = undefined;
    this.worker.unref();
    for (const [name, t] of Object.entries(reply.lent ?? {}))
      Object.assign(pending.feeds![name], { data: t.data });
    this.release();
    if ('error' in reply) pending.reject(new Error(reply.error));
    else pending.resolve(reply.outputs);
  }

  private fail(): void {
    const { pending } = this;
    this.pending = undefined;
    this.release();
    pending?.reject(this.stopped());
  }

  private release(): void {
    this.back?.resolve();
    this.back = undefined;
  }

  private stopped(): UserError {
    return new UserError(
      `the engine stopped: ${this.why}; what it was doing is lost, the next call starts it anew`,
    );
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** The compiled worker; under a test runner that loads TypeScript, the one that the build put in dist/. */
function workerFile(): URL {
  const here = new URL('./worker.js', import.meta.url);
  if (existsSync(fileURLToPath(here))) return here;
  return new URL('../../../dist/graph/runtime/worker.js', import.meta.url);
}
