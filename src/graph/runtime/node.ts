import { messageOf, UserError } from '../../base/errors.js';
import type { CompiledGraph } from '../emit.js';
import type { Feeds, Held, Runtime, Session, SessionOptions } from './session.js';
import { EngineThread } from './thread.js';

/**
 * ONNX Runtime in a worker thread, so that progress, Ctrl-C and servers stay alive while it computes.
 * The thread starts with the first graph, and anew with the next request after it has died.
 */
export class NodeRuntime implements Runtime {
  private thread: EngineThread | undefined;
  private last: Promise<unknown> = Promise.resolve();
  private closed: UserError | undefined;
  private ids = 0;

  async load(graph: CompiledGraph, options: SessionOptions = {}): Promise<Session> {
    const session = new NodeSession(this, graph, options);
    await session.load();
    return session;
  }

  get lending(): Promise<void> | undefined {
    return this.thread?.lending;
  }

  async close(why = 'the engine was closed'): Promise<void> {
    this.closed ??= new UserError(why);
    await this.last;
    await this.thread?.end();
    this.thread = undefined;
  }

  /** Gives `job` the engine's thread when all that was asked before is done. Throws UserError once this is closed. */
  request<T>(job: (thread: EngineThread) => Promise<T>): Promise<T> {
    const result = this.last.then(() => {
      if (this.closed) throw this.closed;
      if (!this.thread?.alive) this.thread = new EngineThread();
      return job(this.thread);
    });
    this.last = result.catch(() => {});
    return result;
  }

  /** As request, of what frees something that `thread` has. Nothing is to be freed where that has ended or is about to. */
  async free(thread: EngineThread, job: () => Promise<Feeds>): Promise<Feeds> {
    if (this.closed || thread !== this.thread || !thread.alive) return {};
    return this.request(async (current) => (current === thread ? job() : {})).catch((error) => {
      if (this.closed || !thread.alive) return {};
      throw error;
    });
  }

  /** A number that names a session or what one holds. */
  nextId(): number {
    return ++this.ids;
  }
}

/** What a session holds, in the thread that it was given to. */
class NodeHeld implements Held {
  private released: Promise<Feeds> | undefined;

  constructor(
    readonly id: number,
    readonly thread: EngineThread,
    private readonly free: (id: number) => Promise<Feeds>,
  ) {}

  release(): Promise<Feeds> {
    this.released ??= this.free(this.id);
    return this.released;
  }
}

class NodeSession implements Session {
  private readonly id: number;
  /** Where it is loaded. */
  private thread: EngineThread | undefined;
  private closed = false;

  constructor(
    private readonly runtime: NodeRuntime,
    private readonly graph: CompiledGraph,
    private readonly options: SessionOptions,
  ) {
    this.id = runtime.nextId();
  }

  load(): Promise<void> {
    return this.runtime.request((thread) => this.loadInto(thread));
  }

  async run(feeds: Feeds, lend: Iterable<string> = [], held?: Held): Promise<Feeds> {
    this.checkOpen();
    return this.runtime.request(async (thread) => {
      await this.loadInto(thread);
      const lent = [...lend];
      const kept = held as NodeHeld | undefined;
      if (kept && kept.thread !== thread) {
        throw new UserError(
          'the engine stopped while this was under way, and what it held is lost: begin anew',
        );
      }
      const request = { kind: 'run', session: this.id, feeds, lent, held: kept?.id } as const;
      return thread.ask(request, buffersOf(lent.map((name) => feeds[name])));
    });
  }

  async hold(feeds: Feeds): Promise<Held> {
    this.checkOpen();
    return this.runtime.request(async (thread) => {
      await this.loadInto(thread);
      const held = this.runtime.nextId();
      await thread.ask({ kind: 'hold', session: this.id, held, feeds }, buffersOf(Object.values(feeds)));
      return new NodeHeld(held, thread, (id) => this.release(thread, id));
    });
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    const { thread, id: session } = this;
    if (thread) await this.runtime.free(thread, () => thread.ask({ kind: 'close', session }));
  }

  private release(thread: EngineThread, held: number): Promise<Feeds> {
    if (this.closed) return Promise.resolve({});
    return this.runtime.free(thread, () => thread.ask({ kind: 'release', session: this.id, held }));
  }

  private checkOpen(): void {
    if (this.closed) throw new Error('this session is closed');
  }

  private async loadInto(thread: EngineThread): Promise<void> {
    if (this.thread === thread) return;
    const { graph, options, id: session } = this;
    const request = { ...options, bytes: graph.bytes };
    await thread.ask({ kind: 'load', session, request }).catch((error: unknown) => {
      const { device = 'cpu' } = options;
      if (device === 'cpu' || error instanceof UserError) throw error;
      throw new UserError(`the device "${device}" does not work here: ${reasonOf(messageOf(error))}`);
    });
    this.thread = thread;
  }
}

/** What the engine says, without the place in its source. */
function reasonOf(message: string): string {
  return message.replace(/^\/.* was false\. /s, '').replace(/^Ort\w+: /, '');
}

function buffersOf(tensors: readonly Feeds[string][]): ArrayBuffer[] {
  return tensors.map((t) => t.data.buffer as ArrayBuffer);
}
