/** What all kinds of attention share: products of heads, past and new apart, and rotations. */
import { type Dim, mulDims } from '../../base/dims.js';
import {
  add,
  concat,
  matmul,
  mul,
  reshape,
  rope,
  scalar,
  softmax,
  split,
  tanh,
  transpose,
} from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { KeyValue } from '../model.js';

/** Sizes of attention's heads. Groups of query heads share a key head (Ainslie et al., arXiv:2305.13245). */
export interface HeadSizes {
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** How scores come from q·Kᵀ. */
export interface Scoring {
  scale: number;
  /** Scores are bent by tanh to stay below this (Gemma 2); null: they are not. */
  softcap: number | null;
}

/** [batch·seq, heads·headDim] to [batch, seq, heads, headDim]. */
export function headed(x: Tensor, [batch, seq]: readonly [Dim, Dim], heads: number, headDim: number): Tensor {
  return reshape(x, [batch, seq, heads, headDim]);
}

/** [batch·seq, heads·headDim] to [batch, heads, seq, headDim]. */
export function byHead(x: Tensor, rows: readonly [Dim, Dim], heads: number, headDim: number): Tensor {
  return transpose(headed(x, rows, heads, headDim), [0, 2, 1, 3]);
}

/**
 * softmax(scores of q and K + mask)·V, where K and V are what the cache holds followed by what is new. The query heads that
 * share a key head are stacked as rows, so that no key or value is ever repeated. Past and new are multiplied apart, so the
 * cache is read but never copied. q: [batch, heads, seq, headDim]; added: [batch, kvHeads, seq, headDim]; result
 * [batch·seq, heads·headDim].
 */
export function attend(
  { heads, kvHeads, headDim }: HeadSizes,
  scoring: Scoring,
  q: Tensor,
  mask: Tensor,
  added: KeyValue,
  past?: KeyValue,
): Tensor {
  const [batch, , seq] = q.shape;
  const stacked = reshape(q, [batch, kvHeads, mulDims(heads / kvHeads, seq), headDim]);
  const rows = transpose(
    reshape(weighted(scoring, stacked, mask, added, past), [batch, heads, seq, headDim]),
    [0, 2, 1, 3],
  );
  return reshape(rows, [mulDims(batch, seq), heads * headDim]);
}

function weighted(scoring: Scoring, q: Tensor, mask: Tensor, added: KeyValue, past?: KeyValue): Tensor {
  const scores = (k: Tensor) => capped(matmul(q, k, { transB: true, alpha: scoring.scale }), scoring.softcap);
  if (!past) return matmul(softmax(add(scores(added.k), mask)), added.v);
  const sizes = [past.k.shape[2], added.k.shape[2]];
  const weights = softmax(add(concat([scores(past.k), scores(added.k)], 3), mask));
  const [before, now] = split(weights, 3, sizes);
  return add(matmul(before, past.v), matmul(now, added.v));
}

/** cap·tanh(x / cap); x where there is no cap. */
export function capped(x: Tensor, cap: number | null): Tensor {
  return cap === null ? x : mul(tanh(mul(x, scalar(1 / cap))), scalar(cap));
}

/** Rotates the first `dim` dimensions of each head. x: [batch, heads, seq, headDim]. */
export function rotated(
  x: Tensor,
  positions: Tensor,
  { cos, sin }: { cos: Tensor; sin: Tensor },
  dim: number,
): Tensor {
  const whole = Number(x.shape[3]);
  if (dim === whole) return rope(x, positions, cos, sin);
  const [turned, left] = split(x, 3, [dim, whole - dim]);
  return concat([rope(turned, positions, cos, sin), left], 3);
}
