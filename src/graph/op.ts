import type { Dim, Shape } from '../base/dims.js';
import type { DType, HostTensor } from '../base/tensor.js';
import { makeNode, type Node, type Tensor, type TensorType } from './tensor.js';

/** Where a graph will run. Providers lack different things; only `emit` rules look at this. */
export const devices = ['cpu', 'webgpu', 'cuda'] as const;
export type Device = (typeof devices)[number];

/** What a graph is emitted for: a device, or any that a file of it may be run on; then it has no second results of norms. */
export type Target = Device | 'any';

/** What an op's emission rule can do. Names are ONNX value names. */
export interface EmitContext {
  readonly device: Target;
  /** Adds an ONNX node and returns its output names. */
  node(opType: string, inputs: readonly string[], attrs?: OnnxAttrs, options?: NodeOptions): string[];
  /** A constant of small data; equal constants are stored once. */
  constant(value: HostTensor): string;
  /** A constant int64 vector. */
  int64(values: readonly number[]): string;
  /** A constant int64 without dimensions. */
  int64Scalar(value: number): string;
  /**
   * An int64 [1] that holds 1 and that the engine learns only when it runs: what needs it is not computed at load. With
   * `signal`, a value of unknown height, it learns it no sooner than that, and takes it for no other's. Fixed heights tell
   * nothing: pass `opaqueSignal`.
   */
  opaqueOne(signal?: string): string;
  /**
   * Runs `body` `turns` times (int64 without dimensions), given the turn's number; what it returns comes back stacked, one
   * row a turn, for values of the types of `results`. The body may use what was made before.
   */
  loop(turns: string, results: readonly TensorType[], body: (turn: string) => string[]): string[];
  /** A value as another type. */
  cast(x: string, to: DType): string;
  /** A constant float32 scalar. */
  scalar(value: number): string;
  /** An int64 vector holding `shape`, read at run time where it is symbolic; `oneUnknown` allows a -1 (Reshape). */
  shapeVector(shape: Shape, oneUnknown?: boolean): string;
}

/** x as the signal of opaqueOne, where its height is one that the engine learns late. */
export function opaqueSignal(x: string, { shape }: TensorType): string | undefined {
  return typeof shape[0] === 'string' ? x : undefined;
}

export type OnnxAttrs = Record<string, number | string | readonly number[] | { float: number }>;
export interface NodeOptions {
  domain?: string;
  outputs?: number;
}

/** Inputs and attributes with which the op suite tries an op: forward and gradient. */
export interface Sample<A> {
  attrs: A;
  inputs: readonly SampleInput[];
}
export interface SampleInput {
  dims: readonly number[];
  dtype?: DType;
  /** Values instead of normal random ones. */
  values?: readonly number[];
  /** Not differentiated by the suite: an index, a mask, a table. */
  constant?: boolean;
}

/**
 * One record an op: everything the compiler knows of it. `vjp: null` says on purpose that no gradient
 * passes; it is for ops that take no part in training or that a rewrite makes after differentiation.
 */
export interface Op<A> {
  /** Result types; throws where the inputs do not fit. */
  infer(inputs: readonly TensorType[], attrs: A): TensorType[];
  /** ONNX nodes for it; returns one name an output. */
  emit(ctx: EmitContext, inputs: readonly string[], attrs: A, node: Node): string[];
  /**
   * Bytes of each array that it needs while it runs, beside its operands and results; absent: none. `sizeAt` gives a
   * dimension's size.
   */
  scratch?(inputs: readonly TensorType[], attrs: A, sizeAt: (dim: Dim) => number): readonly number[];
  /**
   * Names of sizes that its results have and that the engine learns only when it runs, each with what a forecast takes it for;
   * absent: none.
   */
  sizes?(
    inputs: readonly TensorType[],
    attrs: A,
    sizeAt: (dim: Dim) => number,
  ): readonly (readonly [name: string, size: number])[];
  /**
   * Gradient of each input from the gradients of the outputs (undefined where an output is unused).
   * A rule may return a gradient in the broadcast shape: the walker sums it back.
   */
  vjp: null | VjpRule<A>;
  /** A plain implementation to test against. */
  reference(inputs: readonly HostTensor[], attrs: A): HostTensor[];
  samples: readonly Sample<A>[];
}

/** Written as a method, so that ops of different attributes fit in one table. */
export type VjpRule<A> = {
  rule(
    node: { inputs: readonly Tensor[]; outputs: readonly Tensor[]; attrs: A },
    grads: readonly (Tensor | undefined)[],
  ): readonly (Tensor | undefined)[];
}['rule'];

/** Applies a table's op: infers types and makes the node. Builders wrap this. */
export function apply<A>(name: string, op: Op<A>, inputs: readonly Tensor[], attrs: A): readonly Tensor[] {
  try {
    return makeNode(name, inputs, attrs, op.infer(inputs, attrs));
  } catch (error) {
    const shapes = inputs.map((t) => `${t.dtype}[${t.shape.join(', ')}]`).join(', ');
    throw new Error(`${name}(${shapes}): ${(error as Error).message}`);
  }
}

/** A dimension known at graph-building time; throws on a symbolic one. */
export function fixed(d: Dim, what: string): number {
  if (typeof d !== 'number') throw new Error(`${what} must be a fixed size, not ${d}`);
  return d;
}

/** `axis` counted from the front. */
export function normalAxis(axis: number, rank: number): number {
  const a = axis < 0 ? axis + rank : axis;
  if (a < 0 || a >= rank) throw new Error(`axis ${axis} is outside rank ${rank}`);
  return a;
}
