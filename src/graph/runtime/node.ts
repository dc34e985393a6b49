import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { messageOf, UserError } from '../../base/errors.js';
import type { CompiledGraph } from '../emit.js';
import type { Feeds, Runtime, Session, SessionOptions } from './session.js';
import type { Reply, Request } from './worker.js';

type Body<K extends Request['kind']> = Omit<Extract<Request, { kind: K }>, 'id'>;

/**
 * ONNX Runtime in a worker thread, so that progress, Ctrl-C and servers stay alive while it computes.
 * The thread starts with the first graph and does not keep the process alive by itself.
 */
export class NodeRuntime implements Runtime {
  private worker: Worker | undefined;
  private readonly waiting = new Map<
    number,
    { feeds?: Feeds; resolve: (outputs: Feeds) => void; reject: (error: Error) => void }
  >();
  private last: Promise<unknown> = Promise.resolve();
  private lastId = 0;
  private lastSession = 0;

  async load(graph: CompiledGraph, options: SessionOptions = {}): Promise<Session> {
    const session = ++this.lastSession;
    await this.call({ kind: 'load', session, request: { ...options, bytes: graph.bytes } }).catch(
      (error: unknown) => {
        const { device = 'cpu' } = options;
        if (device === 'cpu') throw error;
        throw new UserError(`the device "${device}" does not work here: ${messageOf(error)}`);
      },
    );
    return {
      run: (feeds, lend = []) =>
        this.enqueue(() => this.call({ kind: 'run', session, feeds, lent: [...lend] })),
      hold: async (feeds) => {
        await this.enqueue(() => this.call({ kind: 'hold', session, feeds }));
      },
      close: async () => {
        if (this.worker) await this.call({ kind: 'close', session });
      },
    };
  }

  /** Ends the thread, after the run under way: the engine aborts the process when it is stopped in the middle. */
  async close(): Promise<void> {
    await this.last;
    const worker = this.worker;
    this.worker = undefined;
    await worker?.terminate();
  }

  /** One at a time: what one run has borrowed, the next may need. */
  private enqueue<T>(job: () => Promise<T>): Promise<T> {
    const result = this.last.then(job);
    this.last = result.catch(() => {});
    return result;
  }

  private call(body: Body<'load'> | Body<'run'> | Body<'hold'> | Body<'close'>): Promise<Feeds> {
    const worker = this.start();
    const id = ++this.lastId;
    const feeds = body.kind === 'run' ? body.feeds : undefined;
    const lent =
      body.kind === 'run' ? body.lent.map((name) => body.feeds[name].data.buffer as ArrayBuffer) : [];
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { feeds, resolve, reject });
      worker.ref();
      worker.postMessage({ ...body, id }, [...new Set(lent)]);
    });
  }

  private start(): Worker {
    if (this.worker) return this.worker;
    const worker = new Worker(workerFile(), { name: 'lowrank engine' });
    worker.on('message', (reply: Reply) => this.settle(worker, reply));
    const fail = (why: string) => {
      const error = new UserError(`the engine stopped: ${why}`);
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
      if (this.worker === worker) this.worker = undefined;
    };
    worker.on('error', (error) => fail(error.message));
    worker.on('exit', (code) => fail(`its thread ended with code ${code}`));
    this.worker = worker;
    return worker;
  }

  private settle(worker: Worker, reply: Reply): void {
    const call = this.waiting.get(reply.id);
    if (!call) return;
    this.waiting.delete(reply.id);
    if (this.waiting.size === 0) worker.unref();
    for (const [name, t] of Object.entries(reply.lent ?? {}))
      Object.assign(call.feeds![name], { data: t.data });
    if ('error' in reply) call.reject(new Error(reply.error));
    else call.resolve(reply.outputs);
  }
}

/** The compiled worker; under a test runner that loads TypeScript, the one that the build put in dist/. */
function workerFile(): URL {
  const here = new URL('./worker.js', import.meta.url);
  if (existsSync(fileURLToPath(here))) return here;
  return new URL('../../../dist/graph/runtime/worker.js', import.meta.url);
}
