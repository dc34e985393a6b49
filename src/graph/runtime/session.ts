import type { HostTensor } from '../../base/tensor.js';
import type { CompiledGraph } from '../emit.js';
import type { Device } from '../op.js';

export type Feeds = Record<string, HostTensor>;

/** More than any machine has use for; the engine would try to start them. */
export const MAX_THREADS = 1024;

export interface SessionOptions {
  device?: Device;
  /** Folder of the files that hold the frozen weights. */
  weightsFolder?: string;
  /** Threads of the CPU provider; default: one a physical core, as ONNX Runtime counts them. */
  threads?: number;
  /**
   * Repack weights for products with few rows. Twice as fast for decoding one token at a time, and costs a
   * second copy of the weights; a training step gains nothing.
   */
  prepack?: boolean;
  /** Writes ONNX Runtime's profile to files with this prefix. */
  profile?: string;
}

/** Feeds that lie in the engine, for the runs that name them: an adapter's matrices. */
export interface Held {
  /** Moves them back, for who wants them; nothing where the engine has ended. */
  release(): Promise<Feeds>;
}

/** A compiled graph, loaded and ready. One run at a time; calls queue. Where the engine had to start anew, it loads again. */
export interface Session {
  /**
   * Feeds every input and returns every output; what `held` holds need not be among the feeds.
   *
   * Tensors named in `lend` are moved to the engine and back instead of copied: while the run is under way
   * their `data` is empty, afterwards it is a new view of the same memory. Use it for large feeds that the
   * caller owns alone (caches, parameters).
   */
  run(feeds: Feeds, lend?: Iterable<string>, held?: Held): Promise<Feeds>;
  /** Moves feeds into the engine, where they stay: their `data` is empty from then on. A session may hold many. */
  hold(feeds: Feeds): Promise<Held>;
  /** Frees the engine's memory. */
  close(): Promise<void>;
}

/** Something that runs graphs, one request after the other. */
export interface Runtime {
  load(graph: CompiledGraph, options?: SessionOptions): Promise<Session>;
  /** While a run has borrowed tensors: resolves as soon as they are back, before the run's caller goes on. */
  readonly lending: Promise<void> | undefined;
  /** Refuses what is asked from now on with a UserError that says `why`, waits for the request under way, and frees everything. */
  close(why?: string): Promise<void>;
}
