import type * as z from 'zod';
import type { Factors } from '../base/linalg/matrix.js';
import type { Rng } from '../base/rng.js';
import type { F32Tensor } from '../base/tensor.js';
import type { PeftConfig } from '../formats/peftConfig.js';
import type { BaseAlternation } from '../formats/quant/recipe.js';
import type { Tensor } from '../graph/tensor.js';
import type { BaseModel } from '../models/base.js';
import type { Site } from '../models/model.js';
import type { Outline } from '../models/shape.js';

/** Reads one of the base's tensors as float32, by checkpoint name. */
export type ReadBase = (name: string) => Promise<Float32Array>;

/** A tensor of a method: one of the model's own, or one that the method adds to a site or to the whole model. */
export interface Trainable {
  /** Unique; a checkpoint name for the model's own tensors, `site.part` for a site's, a word for a shared one. */
  readonly name: string;
  /** Of a tensor that the method adds to a site: which site, and what it is there (lora_A). */
  readonly at?: { readonly site: string; readonly part: string };
  readonly shape: readonly number[];
  /**
   * Its first value; null takes the model's own. `original` reads what a quantized base was quantized from, where that
   * is known.
   */
  readonly init:
    | null
    | ((rng: Rng, base: ReadBase, original?: ReadBase) => Float32Array | Promise<Float32Array>);
  /** false: saved and fed like the others, but no gradient is computed for it. */
  readonly requiresGrad?: false;
  /**
   * With `init` null: the model's tensor that it begins as and is used instead of, for the module that it is named
   * after alone. Of a tied pair the other one keeps the base's matrix. With `rows` of an embedding nothing parts: a head
   * tied to it sees them too, unless it has rows of its own.
   */
  readonly replaces?: { readonly tensor: string; readonly rows?: readonly number[] };
}

/** A tensor that a method adds to a site, which `param(part)` gives there. */
export function siteTensor(
  { name: site }: Pick<Site, 'name'>,
  part: string,
  shape: readonly number[],
  init: NonNullable<Trainable['init']>,
): Trainable {
  return { name: `${site}.${part}`, at: { site, part }, shape, init };
}

/** What a method sees at a linear site while a graph is built. */
export interface SiteContext {
  readonly site: Site;
  /** Input, [tokens, in]. */
  readonly x: Tensor;
  /** The method's tensor `site.part`. */
  param(part: string): Tensor;
  /** The method's tensor that all sites share. */
  shared(name: string): Tensor;
  /** The base's matrix here, [out, in]. */
  weight(): Tensor;
  /** The base's bias here, [out]; undefined where it has none. */
  bias(): Tensor | undefined;
  /** Of a method with an `invocation`: 1 for tokens from that on, 0 for those before it, [tokens, 1]. */
  active(): Tensor;
  /** x with dropout; x itself outside training or at probability 0. Scale the result by 1/(1-p) yourself. */
  dropped(probability: number): { x: Tensor; scale: number };
}

/** What a method sees at an embedding while a graph is built. */
export interface EmbeddingContext extends Pick<SiteContext, 'site' | 'param' | 'shared'> {
  /** Tokens, int32 of any shape. */
  readonly ids: Tensor;
  /** The base's matrix here, [vocabulary, out]. */
  weight(): Tensor;
}

/** What a method sees when a site is merged. */
export type MergeContext = Pick<SiteContext, 'site' | 'param' | 'shared'>;

/** A site's tensors by their values. */
export interface SiteValues {
  readonly site: Site;
  /** The method's tensor `site.part`. */
  value(part: string): F32Tensor;
  /** The method's tensor that all sites share. */
  shared(name: string): F32Tensor;
}

/** What a method remembers between steps. It is saved in checkpoints, and comes back when a run goes on. */
export interface MethodState {
  readonly tensors: Map<string, F32Tensor>;
  /** Values that JSON can hold. */
  readonly values: Record<string, unknown>;
}

/** An optimizer step that was just done. */
export interface StepContext {
  /** Steps done, this one included, and those that the whole run will do. */
  readonly step: number;
  readonly steps: number;
  /** The method's tensors by name, updated. The hook may change their `data`. */
  readonly values: ReadonlyMap<string, F32Tensor>;
  /** The gradient of loss and penalty that was used, by name of the tensors that train; not yet clipped. */
  readonly grads: ReadonlyMap<string, F32Tensor>;
  /** What clipping multiplied the gradient by. */
  readonly clip: number;
  readonly state: MethodState;
}

/** What the table of methods tells of one. Formulas: `in` and `out` are a target's sizes, r is the rank. */
export interface MethodCard {
  /** As its paper writes it; no two methods share one. */
  readonly title: string;
  /** The paper: "arXiv:2106.09685", or "OpenReview:TwJrTz9cRS" of one that is not there. */
  readonly paper: string;
  /** Parameters that train, as a formula. */
  readonly parameters: string;
  /** What a token costs at inference beyond the base's own work, as long as nothing is merged. */
  readonly inference: string;
  /** Whether its result can be put into the base's own weights. */
  readonly merges: boolean;
  /** What PEFT loads its result as; null where PEFT has no such adapter. */
  readonly peft: string | null;
}

/** Keys and values that stand before those of every sequence, at positions of their own. */
export interface Prefix<C> {
  /** How many positions. */
  length(config: C): number;
  /** All of them, [positions, layers · (key, value) · kvHeads · headDim], as part of a graph. */
  build(config: C, param: (name: string) => Tensor): Tensor;
  /** The same on the host. */
  values(config: C, values: ReadonlyMap<string, F32Tensor>): F32Tensor;
}

/** An adapter folder in a form of its own; its tensors go by their names. */
export interface AdapterFolder<C> {
  /** What adapter_config.json calls it. */
  readonly peftType: string;
  /** Further keys of adapter_config.json. */
  encode(config: C): Record<string, unknown>;
  /** A tensor's name in the file; absent: its own. */
  fileName?(name: string): string;
  /** What `parse` makes the configuration of again, out of those keys. Throws UserError prefixed with `place`. */
  decode(place: string, keys: Record<string, unknown>): unknown;
}

/**
 * A fine-tuning method as a set of hooks. One file a method, one entry in the table; models, training,
 * serving and the command line know methods only through this.
 */
export interface Method<C> {
  readonly name: string;
  readonly card: MethodCard;
  /** The options by PEFT's names, each with a description: the command line's flags and the docs come from it. */
  readonly options: z.ZodObject;
  /** Checks a configuration (camelCase or PEFT's snake_case keys). Throws UserError prefixed with `place`. */
  parse(place: string, config: unknown): C;
  /** The configuration for a model, its targets by the model's own names; absent: it is the same for all. */
  resolve?<D extends C>(config: D, model: Pick<BaseModel, 'sites' | 'network'>): D;
  /** Which tensors train, and how they start. Throws UserError where the config fits nothing. */
  select(config: C, model: Outline): Trainable[];
  /** How the base has to be quantized for it; absent or undefined: plainly, or not at all. */
  alternation?(config: C, model: Outline): BaseAlternation | undefined;
  /** What every layer attends to before the sequence; absent: nothing. Such a method trains nothing else. */
  readonly prefix?: Prefix<C>;
  /** How many trained tokens it puts before every sequence, by its `embedding`; absent: none. */
  virtualTokens?(config: C): number;
  /**
   * Tokens that call the adapter: it takes part from their last occurrence in a row on, and where there is none nowhere;
   * absent: it always does. Their sites are linear, and see all tokens of a row.
   */
  invocation?(config: C): readonly number[];
  /** What a linear site computes, given the base's own output y [tokens, out]; absent: y. */
  linear?(config: C, context: SiteContext, y: Tensor): Tensor;
  /** What an embedding computes, given the base's own rows y [...ids, out]; absent: y. */
  embedding?(config: C, context: EmbeddingContext, y: Tensor): Tensor;
  /**
   * The site's matrix, [out, in] or an embedding's [vocabulary, out], with the method's change in it, for deployment
   * at no extra cost; absent: the method's result cannot be merged.
   */
  merge?(config: C, context: MergeContext, weight: Tensor): Tensor;
  /**
   * What `merge` adds to the site's matrix, as a product b [out, r]·a [r, in] with its scale in it (of an embedding too, whose
   * matrix is the transpose, with `in` the vocabulary); absent or undefined: it is none, or is not known as one.
   */
  factors?(config: C): ((values: SiteValues) => Factors) | undefined;
  /** The same for the bias [out] of a linear site; absent or undefined: the config changes no bias. */
  mergeBias?(config: C): ((context: MergeContext, bias: Tensor) => Tensor) | undefined;
  /** Peak learning rate for so many rows, where none is given; absent: 2e-4. */
  learningRate?(rows: number): number;
  /** Factor of the learning rate for one tensor; absent: 1. `learningRate` is the run's own, before its schedule. */
  learningRateFactor?(config: C, tensor: Pick<Trainable, 'at' | 'shape'>, learningRate: number): number;
  /**
   * A scalar whose gradient is added to the loss's once a step; what is reported as the loss is without it.
   * `param` gives the method's tensors by their full `names`.
   */
  penalty?(config: C, context: { names: readonly string[]; param(name: string): Tensor }): Tensor;
  /** Told before the first step how many there will be. Throws UserError where the config does not fit that. */
  onStart?(config: C, run: { steps: number }): void;
  /**
   * Called after each optimizer step. A run that keeps its best evaluation ends with older values than the state's:
   * what is saved has to follow from the values.
   */
  onStep?(config: C, context: StepContext): void;
  /** A table for people of what training made of the adapter, header first; absent or undefined: nothing to tell. */
  summary?(config: C, values: ReadonlyMap<string, F32Tensor>): (string | number)[][] | undefined;
  /** How such an adapter is saved where it is not of PEFT's form for layers. */
  readonly folder?: AdapterFolder<C>;
  /**
   * PEFT's configuration of such an adapter; absent, as `folder`: the result is a whole
   * model. `trained` tells what training made of the configuration, as ranks that it pruned.
   */
  toPeft?(config: C, trained?: { values: ReadonlyMap<string, F32Tensor>; state: MethodState }): PeftConfig;
  /** The tensors to save with that configuration, out of the method's by name; absent: they are saved as they are. */
  savedTensors?(config: C, values: ReadonlyMap<string, F32Tensor>): ReadonlyMap<string, F32Tensor>;
  /** The configuration behind an adapter for `sites` that was read; undefined where it is another method's. */
  fromPeft?(config: PeftConfig, sites: readonly string[]): C | undefined;
  /** Whether step 0 computes what the base does. */
  readonly startsAtBase: boolean;
}
