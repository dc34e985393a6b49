import type { Task } from '../formats/task.js';
import type { Tensor } from '../graph/tensor.js';
import type { Activation } from './blocks/activation.js';

/** What sites do, alike in every network. */
export const ROLES = [
  'attention.q',
  'attention.k',
  'attention.v',
  'attention.o',
  'attention.qkv',
  'attention.pos_k',
  'attention.pos_q',
  'mlp.gate',
  'mlp.up',
  'mlp.gate_up',
  'mlp.down',
  'router',
  'embedding',
  'positions',
  'types',
  'pooler',
  'head',
  'task',
] as const;
export type Role = (typeof ROLES)[number];

/** What norms do, alike in every network: those before attention and MLP, behind them, on queries and keys, and the last. */
export type NormRole =
  | 'attention.norm'
  | 'attention.post_norm'
  | 'attention.q_norm'
  | 'attention.k_norm'
  | 'mlp.norm'
  | 'mlp.post_norm'
  | 'norm';

/** Where a norm sits: its layer, from 0; absent for the last one. */
export interface NormPlace {
  readonly role: NormRole;
  readonly layer?: number;
}

/** Where a layer of the model sits, as a graph is built: what `target_modules` can name. */
export interface Site {
  /** Checkpoint name without `.weight`: model.layers.0.self_attn.q_proj */
  readonly name: string;
  readonly kind: 'linear' | 'embedding';
  /** What it does in the network. */
  readonly role: Role;
  /** Number of the layer that it is in, from 0; absent outside of layers. */
  readonly layer?: number;
  /** Number of the expert that it is in, from 0, of a mixture: it sees only the tokens that are sent there. */
  readonly expert?: number;
  /** Its file has the matrix as [in, out] (GPT-2's Conv1D); everybody else sees [out, in]. */
  readonly layout?: 'conv1d';
  /** Input size k (vocabulary size of an embedding). */
  readonly in: number;
  /** Output size d. */
  readonly out: number;
  readonly bias: boolean;
  /** The matrix is that of another site (a tied LM head). */
  readonly tiedTo?: string;
}

/** The checkpoint's name of a site's matrix: a tied one has that of the site it is tied to. */
export function matrixName({ name, tiedTo }: Pick<Site, 'name' | 'tiedTo'>): string {
  return `${tiedTo ?? name}.weight`;
}

const NOT_INNER: ReadonlySet<Role | undefined> = new Set(['head', 'task', 'router'] as const);

/**
 * Whether a site is a linear layer other than those of a head, or a router to experts: what "all-linear" means, and what is
 * quantized.
 */
export function isInnerLinear({ kind, role }: Pick<Site, 'kind'> & { role?: Role }): boolean {
  return kind === 'linear' && !NOT_INNER.has(role);
}

export type LinearShape = Pick<Site, 'in' | 'out' | 'role' | 'layer' | 'expert' | 'layout'> & {
  bias?: boolean;
};
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
  /** A parameter used as it is: a norm's gain or bias, whose place is told. */
  param(name: string, shape: readonly number[], norm?: NormPlace): Tensor;
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
  /** int32 [batch, seq], of a network that has types of tokens. */
  typeIds?: Tensor;
  /** int32 [seq, seq]: index of the distance of each position from each other. */
  distances?: Tensor;
  /** int32 [batch, seq, width]: rows of [batch·seq, …] around each position; batch·seq where there is none. */
  neighbours?: Tensor;
  /** Added to attention scores, one for each window: [1 or batch, 1, groups·seq or 1, keys], 0 or very negative. */
  masks: readonly Tensor[];
  /** Rotary tables, each [positions, dim/2]. */
  rotaries: readonly { cos: Tensor; sin: Tensor }[];
  /** For decoding: what earlier calls left, and where to put what this one adds. */
  cache?: {
    /** What is attended to apart from what `present` gives back; undefined where that has all. */
    past(layer: number): KeyValue | undefined;
    /** Takes what this call adds, and gives back what is attended to in its place. */
    present(layer: number, added: KeyValue): KeyValue;
  };
}

/** How the frequencies of a rotary embedding are scaled, as config.json has it (rope_scaling or rope_parameters). */
export type RopeScaling =
  | { type: 'default' }
  | { type: 'linear'; factor: number }
  | { type: 'dynamic'; factor: number; maxPositions: number }
  | {
      type: 'llama3';
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositions: number;
    }
  | {
      type: 'yarn';
      factor: number;
      attentionFactor: number;
      betaFast: number;
      betaSlow: number;
      truncate: boolean;
      originalMaxPositions: number;
    }
  | {
      type: 'longrope';
      shortFactors: readonly number[];
      longFactors: readonly number[];
      attentionFactor: number;
      originalMaxPositions: number;
    };

/** A rotary embedding. */
export interface RopeConfig {
  theta: number;
  /** How many dimensions of each head it turns, the first ones. */
  dim: number;
  scaling: RopeScaling;
}

/** How one layer attends. */
export interface LayerAttention {
  /** Each position sees only this many positions back, itself included; null: all. */
  readonly window: number | null;
  /** Which of the network's rotary embeddings turns queries and keys; null: none. */
  readonly rope: number | null;
}

/** A mixture of experts in the place of an MLP. */
export interface Mixture {
  /** How many experts there are, and how many of them a token is sent to. */
  readonly experts: number;
  readonly chosen: number;
  /** Width inside of each. */
  readonly inner: number;
  /** Whether the shares of a token's experts are made to add up to 1. */
  readonly normalized: boolean;
  /** What the checkpoint calls the block, and the matrices of an expert. */
  readonly names: Readonly<Record<'block' | 'gate' | 'up' | 'down', string>>;
}

/** What every network's configuration tells. */
export interface ModelConfig {
  modelType: string;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Longest sequence the model was made for. */
  maxPositions: number;
  tieWordEmbeddings: boolean;
  /** What it answers instead of the next token. */
  task?: Task;
  /** Whether an encoder has a pooler: the class may have one that a checkpoint leaves out. */
  pooler?: boolean;
}

/** A decoder-only transformer of the Llama family, as its file under src/models describes it. */
export interface DecoderConfig extends ModelConfig {
  rmsNormEps: number;
  bias: { qkv: boolean; o: boolean; mlp: boolean };
  activation: Activation;
  ropes: readonly RopeConfig[];
  /** Of each layer. */
  attention: readonly LayerAttention[];
  /** RMSNorm of q and k before rotation: over each head (Qwen3), or over all of them (OLMo 2). */
  qkNorm: 'head' | 'all' | null;
  /** Where a layer's norms stand: before attention and MLP, behind them, or both (Gemma 2). */
  norms: 'before' | 'behind' | 'both';
  /** What is added to the gains of norms that the checkpoint has: Gemma keeps w − 1. */
  normOffset: 0 | 1;
  /** Experts in the place of the MLP, of each layer; null: it has an MLP. */
  mixtures: readonly (Mixture | null)[];
  /** One matrix for q, k and v, and one for gate and up (Phi-3). */
  fused: boolean;
  /** Factors: of the embeddings, of what attention and MLP add, of q·kᵀ, of the logits. */
  scales: { embedding: number; residual: number; attention: number; logits: number };
  /** Bounds by tanh of attention's scores and of the logits (Gemma 2); null: none. */
  softcaps: { attention: number | null; logits: number | null };
}

/** Whether a model is a decoder of the Llama family. */
export function isLlamaLike(config: ModelConfig): config is DecoderConfig {
  return 'ropes' in config;
}
