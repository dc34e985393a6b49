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

/** A compiled graph, loaded and ready. One run at a time; calls queue. */
export interface Session {
  /**
   * Feeds every input and returns every output.
   *
   * Tensors named in `lend` are moved to the engine and back instead of copied: while the run is under way
   * their `data` is empty, afterwards it is a new view of the same memory. Use it for large feeds that the
   * caller owns alone (caches, parameters).
   */
  run(feeds: Feeds, lend?: Iterable<string>): Promise<Feeds>;
  /** Feeds kept in the engine, and used at every run until replaced: an adapter's matrices. Copied once. */
  hold(feeds: Feeds): Promise<void>;
  /** Frees the engine's memory. */
  close(): Promise<void>;
}

/** Something that runs graphs. */
export interface Runtime {
  load(graph: CompiledGraph, options?: SessionOptions): Promise<Session>;
  close(): Promise<void>;
}
