import type { Tensor } from '../graph/tensor.js';

/** What sites do, alike in every network. */
export const ROLES = [
  'attention.q',
  'attention.k',
  'attention.v',
  'attention.o',
  'attention.pos_k',
  'attention.pos_q',
  'mlp.gate',
  'mlp.up',
  'mlp.down',
  'embedding',
  'pooler',
  'head',
] as const;
export type Role = (typeof ROLES)[number];

/** Where a layer of the model sits, as a graph is built: what `target_modules` can name. */
export interface Site {
  /** Checkpoint name without `.weight`: model.layers.0.self_attn.q_proj */
  readonly name: string;
  readonly kind: 'linear' | 'embedding';
  /** What it does in the network. */
  readonly role: Role;
  /** Number of the layer that it is in, from 0; absent outside of layers. */
  readonly layer?: number;
  /** Input size k (vocabulary size of an embedding). */
  readonly in: number;
  /** Output size d. */
  readonly out: number;
  readonly bias: boolean;
  /** The matrix is that of another site (a tied LM head). */
  readonly tiedTo?: string;
}

export type LinearShape = Pick<Site, 'in' | 'out' | 'role' | 'layer'> & { bias?: boolean };
export type EmbeddingShape = Pick<Site, 'in' | 'out' | 'role'>;

/**
 * What a model asks for by checkpoint name. The base answers with frozen weights; a method wraps it and
 * decides what happens at each site, so models never know of methods.
 */
export interface Sites {
  /** x·Wᵀ + b. x: [tokens, in]; result [tokens, out]. */
  linear(name: string, x: Tensor, shape: LinearShape): Tensor;
  /** Rows of an embedding. ids: int32 [batch, seq]; result [batch, seq, out]. */
  embedding(name: string, ids: Tensor, shape: EmbeddingShape): Tensor;
  /** x·Eᵀ with the matrix of the embedding `tiedTo`, under the name of the LM head. */
  tiedLinear(name: string, tiedTo: string, x: Tensor, shape: LinearShape): Tensor;
  /** A parameter used as it is: a norm's gain. */
  param(name: string, shape: readonly number[]): Tensor;
}

/** Keys and values of one layer: [batch, kvHeads, positions, headDim]. */
export interface KeyValue {
  k: Tensor;
  v: Tensor;
}

/** What flows through a network. */
export interface Stream {
  /** int32 [batch, seq] */
  ids: Tensor;
  /** int64 [batch, seq] */
  positions: Tensor;
  /** Added to attention scores, one for each window: [1 or batch, 1, groups·seq, keys], 0 or very negative. */
  masks: readonly Tensor[];
  /** Rotary tables, each [positions, dim/2]. */
  rotaries: readonly { cos: Tensor; sin: Tensor }[];
  /** For decoding: what earlier calls left, and where to put what this one adds. */
  cache?: {
    past(layer: number): KeyValue;
    present(layer: number, added: KeyValue): void;
  };
}

/** Rotary embedding parameters, as config.json has them (rope_theta, rope_scaling or rope_parameters). */
export interface RopeConfig {
  theta: number;
  scaling:
    | { type: 'default' }
    | { type: 'linear'; factor: number }
    | {
        type: 'llama3';
        factor: number;
        lowFreqFactor: number;
        highFreqFactor: number;
        originalMaxPositions: number;
      };
}

/** A decoder-only transformer of the Llama family, as its file under src/models describes it. */
export interface DecoderConfig {
  modelType: string;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  rmsNormEps: number;
  /** Longest sequence the model was made for. */
  maxPositions: number;
  tieWordEmbeddings: boolean;
  rope: RopeConfig;
  /** Each position sees only this many positions back, itself included. */
  slidingWindow: number | null;
  bias: { qkv: boolean; o: boolean; mlp: boolean };
  /** RMSNorm over each head of q and k before rotation (Qwen3). */
  qkNorm: boolean;
}
