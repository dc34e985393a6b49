/** What every network answers, so that training, serving and methods know none by name. */
import type { Tensor } from '../graph/tensor.js';
import type { ModelConfig, RopeConfig, Sites, Stream } from './model.js';

/** Tables that a network's graphs take beside token ids. Layers name them by their place in the lists. */
export interface StreamSpec {
  /** Query heads that share a key head: a mask has rows for each of them. */
  readonly groups: number;
  /** A mask each: how many positions back a query sees, itself included; null: all of them. */
  readonly windows: readonly (number | null)[];
  /** Rotary embeddings, a pair of tables each. */
  readonly ropes: readonly RopeConfig[];
}

/** What is kept of each position between decoding steps: a key and a value a layer, [kvHeads, headDim]. */
export interface CacheLayout {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** What a network's checkpoint calls its parts. */
export interface NetworkNames {
  /** Before all names but the head's; a checkpoint without a head may leave it out: "model." */
  readonly prefix: string;
  /** Before the number of a layer: "model.layers." */
  readonly layers: string;
  /** The matrix that gives logits, and the embedding that it shares where it is tied; without `.weight`. */
  readonly head: string;
  readonly embedding: string;
}

/** A network bound to its configuration: all that graphs are built of. It knows no weights, only their names. */
export interface Network {
  readonly config: ModelConfig;
  readonly stream: StreamSpec;
  readonly cache: CacheLayout;
  readonly names: NetworkNames;
  /**
   * Hidden states after the last norm, [batch·seq, hidden]. `boundary` is told what enters each layer, and what leaves
   * the last: all that connects one with the next.
   */
  forward(sites: Sites, stream: Stream, boundary?: (x: Tensor) => void): Tensor;
  /** Logits over the vocabulary for rows of hidden states: [n, hidden] to [n, vocab]. */
  lmHead(sites: Sites, hidden: Tensor): Tensor;
}

/** One entry of the architecture table, by the `model_type` of config.json. */
export interface Architecture<C extends ModelConfig = ModelConfig> {
  readonly modelType: string;
  /** Reads a config.json. Throws UserError, prefixed with `place`, on one that it cannot run faithfully. */
  parse(place: string, config: unknown): C;
  /** The network of such a configuration. */
  network(config: C): Network;
}
