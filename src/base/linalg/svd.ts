import { Rng } from '../rng.js';
import {
  energy,
  firstColumns,
  firstRows,
  type Matrix,
  matrix,
  multiply,
  multiplyRows,
  transpose,
} from './matrix.js';
import { qr } from './qr.js';
import { symmetricEigen } from './symmetric.js';

/** a = u·diag(s)·vt with u [m, k], s descending and not negative, vt [k, n]. Where s is 0, the vectors are 0 too. */
export interface Svd {
  readonly u: Matrix;
  readonly s: Float64Array;
  readonly vt: Matrix;
}

const MAX_SWEEPS = 60;

/** Columns whose cosine is below this count as orthogonal. */
const ORTHOGONAL = 1e-15;

/**
 * Thin SVD, k = min(m, n), by one-sided Jacobi rotations of the triangle of a QR factorization (Drmač & Veselić 2008):
 * small singular values come out as exactly as large ones. O(k³) a sweep, so for k up to some hundreds; beyond, and
 * where only the largest are wanted, truncatedSvd.
 */
export function svd(a: Matrix): Svd {
  if (a.rows < a.columns) {
    const { u, s, vt } = svd(transpose(a));
    return { u: transpose(vt), s, vt: transpose(u) };
  }
  const { q, r } = qr(a);
  // rᵀ = w·diag(s)·zᵀ, so that a = (q·z)·diag(s)·wᵀ. Rows of these two are columns of rᵀ and z.
  const k = r.rows;
  const columns = r.data.slice();
  const z = matrix(k, k);
  for (let i = 0; i < k; i++) z.data[i * k + i] = 1;
  for (let sweep = 0; sweep < MAX_SWEEPS && rotateAll(columns, z.data, k); sweep++);

  const norms = squaredNorms(columns, k).map(Math.sqrt);
  const order = Array.from(norms.keys()).sort((i, j) => norms[j] - norms[i]);
  const s = Float64Array.from(order, (j) => norms[j]);
  const vt = matrix(k, k);
  const zt = matrix(k, k);
  // A norm that is only the rounding of the largest is that of a zero.
  const floor = s[0] * k * Number.EPSILON * 0.01;
  for (const [i, j] of order.entries()) {
    if (s[i] <= floor) {
      s[i] = 0;
      continue;
    }
    for (let c = 0; c < k; c++) {
      vt.data[i * k + c] = columns[j * k + c] / s[i];
      zt.data[i * k + c] = z.data[j * k + c];
    }
  }
  return { u: multiply(q, transpose(zt)), s, vt };
}

/** Rotates each pair of columns until they are orthogonal. Returns whether any was not. */
function rotateAll(columns: Float64Array, z: Float64Array, k: number): boolean {
  let rotated = false;
  const squares = squaredNorms(columns, k);
  for (let i = 0; i < k - 1; i++) {
    for (let j = i + 1; j < k; j++) {
      let gamma = 0;
      for (let c = 0, a = i * k, b = j * k; c < k; c++, a++, b++) gamma += columns[a] * columns[b];
      if (gamma === 0 || Math.abs(gamma) <= ORTHOGONAL * k * Math.sqrt(squares[i] * squares[j])) continue;
      rotated = true;
      const zeta = (squares[j] - squares[i]) / (2 * gamma);
      const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
      const cos = 1 / Math.sqrt(1 + t * t);
      rotate(columns, i * k, j * k, k, cos, cos * t);
      rotate(z, i * k, j * k, k, cos, cos * t);
      squares[i] = Math.max(0, squares[i] - t * gamma);
      squares[j] += t * gamma;
    }
  }
  return rotated;
}

function rotate(data: Float64Array, a: number, b: number, k: number, cos: number, sin: number): void {
  for (let c = 0; c < k; c++) {
    const x = data[a + c];
    const y = data[b + c];
    data[a + c] = cos * x - sin * y;
    data[b + c] = sin * x + cos * y;
  }
}

/** Of each column, k elements long. */
function squaredNorms(columns: Float64Array, k: number): Float64Array {
  return Float64Array.from({ length: k }, (_, j) => energy(columns.subarray(j * k, (j + 1) * k)));
}

/** Matrices with no more rows or columns are cheap to factor in full. */
const EXACT = 64;

export interface TruncatedSvdOptions {
  /** Passes of power iteration: the more, the closer to the exact vectors where singular values lie close together. */
  iterations?: number;
  /** Directions beyond the rank that are followed along. */
  oversample?: number;
  seed?: number;
}

/**
 * The `rank` largest singular values and their vectors, by a random subspace and power iteration (Halko, Martinsson &
 * Tropp, arXiv:0909.4061, algorithm 4.4). Equal seeds give equal results. Small
 * matrices are factored in full.
 */
export function truncatedSvd(
  a: Matrix,
  rank: number,
  { iterations = 4, oversample = 8, seed = 0 }: TruncatedSvdOptions = {},
): Svd {
  const limit = Math.min(a.rows, a.columns);
  if (rank > limit) throw new Error(`rank ${rank} is more than ${a.rows} × ${a.columns} has`);
  const width = rank + oversample;
  if (width >= limit || limit <= EXACT) return leading(svd(a), rank);
  const rng = new Rng(seed, 'truncated svd');
  const start = matrix(width, a.columns);
  for (let i = 0; i < start.data.length; i++) start.data[i] = rng.normal();
  const at = transpose(a);
  let range = qr(multiplyRows(a, start)).q;
  for (let i = 0; i < iterations; i++) {
    range = qr(multiply(a, qr(multiply(at, range)).q)).q;
  }
  const { u, s, vt } = svd(transpose(multiply(at, range)));
  return leading({ u: multiply(range, u), s, vt }, rank);
}

/** Of larger ones the whole SVD is by way of the Gram matrix. */
const JACOBI = 96;

/**
 * SVD of b·a, b [m, r] and a [r, n], without forming the product: QR of both, then the SVD of an r × r matrix. For r above
 * 96 by the eigenvalues of that matrix times its transpose, where singular values below 1e-8 of the largest count as 0.
 */
export function productSvd(b: Matrix, a: Matrix): Svd {
  const left = qr(b);
  const right = qr(transpose(a));
  const core = multiply(left.r, transpose(right.r));
  const { u, s, vt } = Math.min(core.rows, core.columns) > JACOBI ? svdByGram(core) : svd(core);
  return { u: multiply(left.q, u), s, vt: multiply(vt, transpose(right.q)) };
}

/** A square's root loses half of the digits. */
const GRAM_FLOOR = 1e-8;

/** The whole SVD by the eigenvalues of A·Aᵀ, or of Aᵀ·A where that is smaller; values below 1e-8 of the largest count as 0. */
export function svdByGram(a: Matrix): Svd {
  if (a.rows > a.columns) {
    const { u, s, vt } = svdByGram(transpose(a));
    return { u: transpose(vt), s, vt: transpose(u) };
  }
  const { vectors } = symmetricEigen(multiplyRows(a, a), 'vectors');
  const vt = multiply(vectors, a);
  const s = new Float64Array(a.rows);
  for (let i = 0; i < a.rows; i++) {
    const image = vt.data.subarray(i * a.columns, (i + 1) * a.columns);
    const length = Math.sqrt(energy(image));
    if (length <= GRAM_FLOOR * s[0]) {
      image.fill(0);
      vectors.data.fill(0, i * a.rows, (i + 1) * a.rows);
      continue;
    }
    s[i] = length;
    for (let c = 0; c < image.length; c++) image[c] /= length;
  }
  return { u: transpose(vectors), s, vt };
}

/** Its first `rank` terms. */
export function leading({ u, s, vt }: Svd, rank: number): Svd {
  return { u: firstColumns(u, rank), s: s.slice(0, rank), vt: firstRows(vt, rank) };
}
