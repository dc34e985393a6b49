import { Rng } from '../rng.js';
import { energy, firstRows, type Matrix, matrix, multiply, multiplyRows } from './matrix.js';
import { svd } from './svd.js';
import type { Eigen } from './symmetric.js';

/** A symmetric matrix A [n, n] without negative eigenvalues, by what it makes of rows [k, n]. */
export interface SymmetricOperator {
  readonly size: number;
  /** rows·A */
  multiply(rows: Matrix): Matrix | Promise<Matrix>;
}

export interface LeadingEigenOptions {
  /** Rows to begin from: vectors of a matrix that is nearly the same. */
  start?: Matrix;
  /** Stops where ‖Av − λv‖ is no more than this part of λ. */
  tolerance?: number;
  /** Products at most. */
  iterations?: number;
  /** Directions beyond the rank that are followed along: the more, the fewer products, each of more rows. */
  oversample?: number;
  seed?: number;
}

/** With no more rows a matrix is factored in full. */
const EXACT = 64;

/**
 * The `rank` largest eigenvalues and their vectors, and behind them what is known of some more, by subspace iteration with
 * Rayleigh–Ritz (Saad, Numerical Methods for Large Eigenvalue Problems, section 5.3). Equal seeds give equal results.
 */
export async function leadingEigen(
  operator: SymmetricOperator,
  rank: number,
  { start, tolerance = 1e-3, iterations = 30, oversample = 8, seed = 0 }: LeadingEigenOptions = {},
): Promise<Eigen> {
  const n = operator.size;
  if (rank > n) throw new Error(`rank ${rank} is more than ${n} × ${n} has`);
  if (n <= EXACT) return ritz(await operator.multiply(identity(n)));
  let basis = orthonormalRows(startRows(n, Math.min(n, rank + oversample), start, seed));
  for (let i = 1; ; i++) {
    const image = await operator.multiply(basis);
    const { values, vectors } = ritz(multiplyRows(basis, image));
    const images = multiply(vectors, image);
    const found = multiply(vectors, basis);
    if (i >= iterations || largestResidual(images, found, values, rank) <= tolerance) {
      return { values, vectors: found };
    }
    basis = orthonormalRows(images);
  }
}

/** The first `rank` of them. */
export function leading({ values, vectors }: Eigen, rank: number): Eigen {
  return { values: values.slice(0, rank), vectors: firstRows(vectors, rank) };
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

/** Over the first `rank`: the largest ‖Av − λv‖/λ. */
function largestResidual(images: Matrix, vectors: Matrix, values: Float64Array, rank: number): number {
  const n = images.columns;
  let largest = 0;
  for (let k = 0; k < rank && values[k] > 0; k++) {
    let square = 0;
    for (let i = k * n; i < (k + 1) * n; i++) square += (images.data[i] - values[k] * vectors.data[i]) ** 2;
    largest = Math.max(largest, Math.sqrt(square) / values[k]);
  }
  return largest;
}

/** Less than this, squared, of a row of length 1 that is not in those before it counts as nothing. */
const DEPENDENT = 1e-14;

/**
 * Rows that span the same, by the Cholesky factor of their products: half the work of Householder's, and orthogonal enough
 * for rows that are nearly so, as they are from the second product on. A row that depends on those before becomes 0.
 */
function orthonormalRows(rows: Matrix): Matrix {
  const { rows: count, columns: n } = rows;
  const result = matrix(count, n, rows.data);
  const row = (i: number) => result.data.subarray(i * n, (i + 1) * n);
  for (let i = 0; i < count; i++) scale(row(i), 1 / (norm(row(i)) || 1));
  const products = multiplyRows(result, result).data;
  const factor = matrix(count, count).data;
  for (let i = 0; i < count; i++) {
    const own = row(i);
    for (let j = 0; j < i; j++) {
      let left = products[i * count + j];
      for (let k = 0; k < j; k++) left -= factor[i * count + k] * factor[j * count + k];
      const diagonal = factor[j * count + j];
      if (diagonal === 0) continue;
      factor[i * count + j] = left / diagonal;
      const [other, along] = [row(j), left / diagonal];
      for (let c = 0; c < n; c++) own[c] -= along * other[c];
    }
    const length = norm(own);
    const independent = length ** 2 > DEPENDENT;
    factor[i * count + i] = independent ? length : 0;
    scale(own, independent ? 1 / length : 0);
  }
  return result;
}

function norm(row: Float64Array): number {
  return Math.sqrt(energy(row));
}

function scale(row: Float64Array, factor: number): void {
  for (let i = 0; i < row.length; i++) row[i] *= factor;
}

function startRows(n: number, width: number, known: Matrix | undefined, seed: number): Matrix {
  const rng = new Rng(seed, 'leading eigenvectors');
  const rows = matrix(width, n);
  const from = Math.min(known?.data.length ?? 0, rows.data.length);
  if (known) rows.data.set(known.data.subarray(0, from));
  for (let i = from; i < rows.data.length; i++) rows.data[i] = rng.normal();
  return rows;
}

function identity(n: number): Matrix {
  const result = matrix(n, n);
  for (let i = 0; i < n; i++) result.data[i * n + i] = 1;
  return result;
}
