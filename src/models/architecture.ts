/** What every network answers, so that training, serving and methods know none by name. */
import { UserError } from '../base/errors.js';
import { outputsOf, type Task } from '../formats/task.js';
import type { Tensor } from '../graph/tensor.js';
import type { HeadKind, TaskHead } from './blocks/taskHead.js';
import type { GgufForm } from './gguf/form.js';
import type { ModelConfig, RopeConfig, Sites, Stream } from './model.js';

/** Tables that a network's graphs take beside token ids. Layers name them by their place in the lists. */
export interface StreamSpec {
  /** What a position sees of its row: itself and what is before it, or all but the padding (an encoder). */
  readonly attends: 'causal' | 'both';
  /** Query heads that share a key head: a mask has rows for each of them. */
  readonly groups: number;
  /** A mask each: how many positions back, or to either side, a query sees, itself included; null: all of them. */
  readonly windows: readonly (number | null)[];
  /** Rotary embeddings, a pair of tables each. */
  readonly ropes: readonly RopeConfig[];
  /** Types that tokens have, by the text of a pair that they are of; 0: none. */
  readonly types: number;
  /** Number of the position that a row begins at: 0, of RoBERTa the one behind its padding token's; null: it takes none. */
  readonly firstPosition: number | null;
  /** How the distance between two positions is an index into a table of them (DeBERTa). */
  readonly distances?: Distances;
  /** Width, an odd one, of what slides over a row: each position is told where the others within are. */
  readonly neighbours?: number;
}

/** An index for each distance i − j: near ones have one each, further ones share those of a logarithmic scale. */
export interface Distances {
  /** Indices to either side; the table has twice as many. */
  readonly span: number;
  /** The furthest distance that has an index of its own scale; null: the scale is linear. */
  readonly furthest: number | null;
}

/** What a decoder's stream has beside what differs from one to the other. */
export const DECODER_STREAM = { attends: 'causal', types: 0, firstPosition: 0 } as const;
/** The same of an encoder's. */
export const ENCODER_STREAM = { attends: 'both', groups: 1, ropes: [], types: 0, firstPosition: 0 } as const;

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
  readonly head?: string;
  readonly embedding: string;
  /** The layer that makes one vector of a row, where there is one; without `.weight`. */
  readonly pooler?: string;
  /** Names of what other programs put on such a network, as a head of masked tokens: left out without a word. */
  readonly others?: RegExp;
}

/** A network bound to its configuration: all that graphs are built of. It knows no weights, only their names. */
export interface Network {
  readonly config: ModelConfig;
  readonly stream: StreamSpec;
  /** The keys and values of its layers; null where these take none from before the sequence. */
  readonly cache: CacheLayout | null;
  readonly names: NetworkNames;
  /**
   * Hidden states after the last norm, [batch·seq, hidden]. `boundary` is told what enters each layer, and what leaves
   * the last: all that connects one with the next.
   */
  forward(sites: Sites, stream: Stream, boundary?: (x: Tensor) => void): Tensor;
  /** Logits over the vocabulary for rows of hidden states: [n, hidden] to [n, vocab]; absent: an encoder. */
  lmHead?(sites: Sites, hidden: Tensor): Tensor;
  /** What an encoder makes of the hidden states of first tokens, [n, hidden] to [n, hidden]; absent where it has none. */
  pooler?(sites: Sites, first: Tensor): Tensor;
  /** The layers that transformers puts on it for a task with so many outputs. */
  heads?(kind: HeadKind, outputs: number): TaskHead;
  /** Those of the configuration's task, in place of the LM head. */
  readonly head?: TaskHead;
}

/** A network that predicts the next token. */
export interface LanguageModel extends Network {
  readonly cache: CacheLayout;
  lmHead(sites: Sites, hidden: Tensor): Tensor;
}

/**
 * The network as one that predicts the next token. Throws UserError where it is an encoder; `refusal` says what that does not
 * do: "does not generate".
 */
export function languageModel(network: Network, refusal: string): LanguageModel {
  const { lmHead, cache, config } = network;
  if (config.task) throw new UserError(`the model is one for ${config.task.kind}: it ${refusal}`);
  if (!lmHead || !cache) throw new UserError(`${config.modelType} is an encoder: it ${refusal}`);
  return { ...network, lmHead, cache };
}

/**
 * A network with the head of a task in place of its LM head; for embeddings without one. Throws UserError where it has none
 * for that.
 */
export function withTask({ lmHead: _, pooler, ...network }: Network, task: Task): Network {
  const { config, names, heads } = network;
  const bare = { ...network, names: withoutHead(names) };
  // A model keeps its pooler, as AutoModel does, though no embedding is made of it.
  if (task.kind === 'embedding') return { ...bare, ...(pooler && { pooler }) };
  if (!heads) throw new UserError(`${config.modelType} has no head for ${task.kind} here`);
  const kind = task.kind === 'token-classification' ? 'token' : 'sequence';
  return { ...bare, head: heads(kind, outputsOf(task)) };
}

/** Names without the LM head, whose tensors are left out without a word. */
function withoutHead({ head, ...others }: NetworkNames): NetworkNames {
  return head === undefined
    ? others
    : { ...others, others: new RegExp(`^${head.replaceAll('.', '\\.')}\\.`) };
}

/** One entry of the architecture table, by the `model_type` of config.json. */
export interface Architecture<C extends ModelConfig = ModelConfig> {
  readonly modelType: string;
  /** Reads a config.json. Throws UserError, prefixed with `place`, on one that it cannot run faithfully. */
  parse(place: string, config: unknown): C;
  /** The network of such a configuration. */
  network(config: C): Network;
  /** How llama.cpp has it; absent: not at all. */
  readonly gguf?: GgufForm<C>;
}
