/** What an adapter changes of the model's own tensors: whole ones, copies for one module alone, rows of embeddings. */
import { f32 } from '../base/tensor.js';
import { add, concat, constant, gather, matmul, mul, reshape, transpose } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { Trainable } from './method.js';

/** The rows that a module sees replaced: its own, or where it is tied and has none those of its embedding. */
export function rowsOf(
  trainables: readonly Trainable[],
  module: string,
  tiedTo?: string,
): RowTrainable | undefined {
  const rowsNamed = (name?: string) =>
    trainables.find((t) => t.replaces?.rows !== undefined && moduleOf(t.name) === name);
  const found = rowsNamed(module) ?? rowsNamed(tiedTo);
  return found && { name: found.name, rows: found.replaces!.rows! };
}

/** The module that a tensor is of. */
export const moduleOf = (tensor: string): string => tensor.slice(0, tensor.lastIndexOf('.'));

export interface RowTrainable {
  name: string;
  /** Which rows; those of the trainable stand in this order. */
  rows: readonly number[];
}

/** Whether a tensor is trained where it is, so that a head tied to it changes with it. */
export function isShared({ replaces }: Trainable): boolean {
  return replaces === undefined;
}

/** The first values of a trainable of the model's own, out of the tensor that it replaces. */
export function startOf({ shape, replaces }: Trainable, base: Float32Array): Float32Array {
  if (!replaces?.rows) return base;
  const width = shape[1];
  const values = new Float32Array(replaces.rows.length * width);
  for (const [i, row] of replaces.rows.entries()) {
    values.set(base.subarray(row * width, (row + 1) * width), i * width);
  }
  return values;
}

/** y [..., d], the rows that an embedding of `vocab` rows gives for `ids`, with `values` [n, d] for the replaced ones. */
export function replacedEmbedding(
  y: Tensor,
  ids: Tensor,
  values: Tensor,
  rows: readonly number[],
  vocab: number,
): Tensor {
  const { slots, kept } = tables(rows, vocab);
  return add(mul(y, gather(kept, ids)), gather(gather(padded(values), slots), ids));
}

/** y [tokens, vocab] = x·Wᵀ with the columns of the replaced rows of W taken from x·valuesᵀ. */
export function replacedLogits(
  y: Tensor,
  x: Tensor,
  values: Tensor,
  rows: readonly number[],
  out: number,
): Tensor {
  const { slots, kept } = tables(rows, out);
  const columns = gather(matmul(padded(values), x, { transB: true }), slots);
  return add(mul(y, reshape(kept, [1, out])), transpose(columns, [1, 0]));
}

/** W [vocab, d] with `values` [n, d] as its rows `rows`. */
export function replacedRows(weight: Tensor, values: Tensor, rows: readonly number[]): Tensor {
  const { slots, kept } = tables(rows, Number(weight.shape[0]));
  return add(mul(weight, kept), gather(padded(values), slots));
}

/** For each row: where its value is among the padded ones, [vocab]; and 1 where the base's stays, else 0, [vocab, 1]. */
function tables(rows: readonly number[], vocab: number): { slots: Tensor; kept: Tensor } {
  const slots = new Int32Array(vocab);
  const kept = new Float32Array(vocab).fill(1);
  for (const [i, row] of rows.entries()) {
    slots[row] = i + 1;
    kept[row] = 0;
  }
  return {
    slots: constant({ dtype: 'int32', dims: [vocab], data: slots }),
    kept: constant(f32(kept, [vocab, 1])),
  };
}

/** A row of zeros before the values: what all other rows have. */
function padded(values: Tensor): Tensor {
  return concat(
    [constant(f32(new Float32Array(Number(values.shape[1])), [1, Number(values.shape[1])])), values],
    0,
  );
}
