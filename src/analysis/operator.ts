/** Matrices as the analyses know them: by their products, so that who has them decides where they lie and what computes. */
import { leadingEigen, leading as leadingOf } from '../base/linalg/eigen.js';
import {
  energy,
  type Factors,
  type Matrix,
  matrix,
  multiply,
  multiplyRows,
  multiplyTransposed,
  transpose,
} from '../base/linalg/matrix.js';
import type { Svd } from '../base/linalg/svd.js';

/** A matrix M [rows, columns], by what it makes of vectors, which are rows here. */
export interface Operator {
  readonly rows: number;
  readonly columns: number;
  /** x·Mᵀ, [k, rows] of x [k, columns] */
  apply(x: Matrix): Matrix | Promise<Matrix>;
  /** y·M, [k, columns] of y [k, rows] */
  applyTransposed(y: Matrix): Matrix | Promise<Matrix>;
}

/** One whose elements are at hand. */
export interface Dense extends Operator {
  /** ‖M‖_F */
  readonly norm: number;
  /** M·Mᵀ or Mᵀ·M, the smaller of the two, in float64. */
  gram(): Matrix | Promise<Matrix>;
}

/** What an adapter or a tuned model changes a layer's matrix W [out, in] by: b [out, r] times a [r, in], or any matrix. */
export type Update =
  | ({ readonly kind: 'product' } & Factors)
  | { readonly kind: 'dense'; readonly change: Dense };

/** A matrix in memory whose products are computed here. */
export function denseOf(m: Matrix): Dense {
  return {
    rows: m.rows,
    columns: m.columns,
    norm: Math.sqrt(energy(m.data)),
    apply: (x) => multiplyRows(x, m),
    applyTransposed: (y) => multiply(y, m),
    gram: () => (m.rows <= m.columns ? multiplyRows(m, m) : multiplyTransposed(m, m)),
  };
}

/** The update's own products. */
export function operatorOf(update: Update): Operator {
  if (update.kind === 'dense') return update.change;
  const { b, a } = update;
  const at = transpose(a);
  const bt = transpose(b);
  return {
    rows: b.rows,
    columns: a.columns,
    apply: (x) => multiplyRows(multiplyRows(x, a), b),
    applyTransposed: (y) => multiplyRows(multiplyRows(y, bt), at),
  };
}

/** M + N */
export function sumOf(m: Operator, n: Operator): Operator {
  const both = async (first: Matrix | Promise<Matrix>, second: Matrix | Promise<Matrix>) => {
    const [x, y] = [await first, await second];
    return { ...x, data: x.data.map((value, i) => value + y.data[i]) };
  };
  return {
    rows: m.rows,
    columns: m.columns,
    apply: (x) => both(m.apply(x), n.apply(x)),
    applyTransposed: (y) => both(m.applyTransposed(y), n.applyTransposed(y)),
  };
}

/**
 * ‖Gv − λv‖ of the smaller Gram matrix G, as a part of λ: singular values are far closer then, and a vector mixes only with
 * neighbours whose values are as close to its own.
 */
const PRECISION = { tolerance: 3e-3, iterations: 40, oversample: 30 };

export interface LeadingSvdOptions {
  /** Vectors of nearly the same matrix, as rows: left ones where it has no more rows than columns, else right ones. */
  start?: Matrix;
  seed?: number;
}

/**
 * The `count` largest singular values and their vectors by products alone: subspace iteration from a random start, that is a
 * randomized SVD with power iterations until it is still (Halko, Martinsson & Tropp, arXiv:0909.4061). Equal seeds give
 * equal results.
 */
export async function leadingSvd(
  m: Operator,
  count: number,
  { start, seed = 0 }: LeadingSvdOptions = {},
): Promise<Svd> {
  const wide = m.rows <= m.columns;
  const there = (x: Matrix) => (wide ? m.applyTransposed(x) : m.apply(x));
  const back = (x: Matrix) => (wide ? m.apply(x) : m.applyTransposed(x));
  const gram = { size: Math.min(m.rows, m.columns), multiply: async (x: Matrix) => back(await there(x)) };
  const found = leadingOf(await leadingEigen(gram, count, { ...PRECISION, start, seed }), count);
  const images = await there(found.vectors);
  const s = new Float64Array(count);
  const other = matrix(count, images.columns);
  for (let i = 0; i < count; i++) {
    const image = images.data.subarray(i * images.columns, (i + 1) * images.columns);
    s[i] = Math.sqrt(energy(image));
    if (s[i] > 0)
      other.data.set(
        image.map((x) => x / s[i]),
        i * images.columns,
      );
  }
  return wide ? { u: transpose(found.vectors), s, vt: other } : { u: transpose(other), s, vt: found.vectors };
}
