import { Rng } from '../rng.js';
import { firstRows, type Matrix, matrix, multiplyRows, multiplyTransposed, transpose } from './matrix.js';
import { qr } from './qr.js';
import { svd } from './svd.js';

/** Eigenvalues, largest first, and their vectors as rows [k, n]. */
export interface Eigen {
  readonly values: Float64Array;
  readonly vectors: Matrix;
}

/** A symmetric matrix [n, n] without negative eigenvalues, by what it makes of a block [n, w]. */
export interface SymmetricOperator {
  readonly size: number;
  multiply(block: Matrix): Matrix | Promise<Matrix>;
}

export interface LeadingEigenOptions {
  /** Rows [k, n] to begin from: the vectors of a matrix that is nearly the same. */
  start?: Matrix;
  /** Stops where ‖Av − λv‖ is no more than this part of λ. */
  tolerance?: number;
  /** Products at most. */
  iterations?: number;
  seed?: number;
}

/** With no more rows a matrix is factored in full. */
const EXACT = 64;

/**
 * The `rank` largest eigenvalues and their vectors, by subspace iteration with Rayleigh–Ritz over twice as many directions
 * (Saad, Numerical Methods for Large Eigenvalue Problems, section 5.3). Equal seeds give equal results.
 */
export async function leadingEigen(
  operator: SymmetricOperator,
  rank: number,
  { start, tolerance = 1e-3, iterations = 30, seed = 0 }: LeadingEigenOptions = {},
): Promise<Eigen> {
  const n = operator.size;
  if (rank > n) throw new Error(`rank ${rank} is more than ${n} × ${n} has`);
  if (n <= EXACT) return leading(ritz(await operator.multiply(identity(n))), rank);
  let basis = qr(transpose(startRows(n, Math.min(n, 2 * rank), start, seed))).q;
  for (let i = 1; ; i++) {
    const image = await operator.multiply(basis);
    const { values, vectors } = ritz(multiplyTransposed(basis, image));
    const rotated = multiplyRows(image, vectors);
    const found = multiplyRows(vectors, basis);
    if (i >= iterations || largestResidual(rotated, found, values, rank) <= tolerance) {
      return leading({ values, vectors: found }, rank);
    }
    basis = qr(rotated).q;
  }
}

/** All of a small symmetric matrix; rounding may have made it a little less so. */
function ritz({ rows: n, data }: Matrix): Eigen {
  const even = matrix(n, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) even.data[i * n + j] = (data[i * n + j] + data[j * n + i]) / 2;
  }
  const { s, vt } = svd(even);
  return { values: s, vectors: vt };
}

/** Over the first `rank`: the largest ‖Av − λv‖/λ, of columns Av and rows v. */
function largestResidual(images: Matrix, vectors: Matrix, values: Float64Array, rank: number): number {
  let largest = 0;
  for (let k = 0; k < rank && values[k] > 0; k++) {
    let square = 0;
    for (let i = 0; i < images.rows; i++) {
      square += (images.data[i * images.columns + k] - values[k] * vectors.data[k * images.rows + i]) ** 2;
    }
    largest = Math.max(largest, Math.sqrt(square) / values[k]);
  }
  return largest;
}

function startRows(n: number, width: number, known: Matrix | undefined, seed: number): Matrix {
  const rng = new Rng(seed, 'leading eigenvectors');
  const rows = matrix(width, n);
  for (let i = 0; i < rows.data.length; i++) rows.data[i] = rng.normal();
  if (known) rows.data.set(known.data.subarray(0, rows.data.length));
  return rows;
}

function identity(n: number): Matrix {
  const result = matrix(n, n);
  for (let i = 0; i < n; i++) result.data[i * n + i] = 1;
  return result;
}

function leading({ values, vectors }: Eigen, rank: number): Eigen {
  return { values: values.slice(0, rank), vectors: firstRows(vectors, rank) };
}
