import { Rng } from '../rng.js';
import {
  firstColumns,
  type Matrix,
  matrix,
  multiply,
  multiplyRows,
  multiplyTransposed,
  transpose,
} from './matrix.js';
import { qr } from './qr.js';
import { svd } from './svd.js';

/** How still the Ritz values are at the end, relative to the largest. */
const STILL = 1e-10;

/** They are looked at again when the subspace has grown by this much. */
const GROWTH = 1.4;

/**
 * The last `count` columns of U in the thin SVD W = U·diag(s)·Vᵀ, [rows, count], s descending: the directions of W's
 * smallest singular values. By a block Krylov space of the inverse of the smaller of WᵀW and WWᵀ, so that a matrix of
 * some hundred rows takes a fraction of a second, where the whole SVD takes many.
 */
export function minorLeftVectors(w: Matrix, count: number): Matrix {
  const tall = w.rows > w.columns;
  const x = smallest(cholesky(tall ? multiplyTransposed(w, w) : multiplyRows(w, w)), count);
  // Rayleigh–Ritz: the block's own singular vectors, of which the last are the smallest.
  const { u, vt } = svd(multiply(tall ? w : transpose(w), x));
  // Directions of the singular value 0 come as zeros: QR completes them and leaves the others as they are.
  return lastColumns(qr(tall ? u : multiply(x, transpose(vt))).q, count);
}

/** Orthonormal columns near the smallest eigenvalues of L·Lᵀ: a few more than `count`, whose own are exact. */
function smallest(lower: Matrix, count: number): Matrix {
  const n = lower.rows;
  const rng = new Rng(0, 'minor vectors');
  const start = Float64Array.from({ length: n * count }, () => rng.normal());
  let basis = qr(matrix(n, count, start)).q;
  // The inverse of L·Lᵀ times the basis but for its last block.
  let images = matrix(n, 0);
  let before = Number.POSITIVE_INFINITY;
  let looked = count;
  while (basis.columns < n) {
    const block = lastColumns(basis, basis.columns - images.columns);
    images = beside(images, solve(lower, block));
    if (images.columns >= GROWTH * looked) {
      looked = images.columns;
      const { u, s } = svd(multiplyTransposed(firstColumns(basis, looked), images));
      const size = s.subarray(0, count).reduce((sum, value) => sum + value, 0);
      if (Math.abs(size - before) <= STILL * size) {
        return multiply(firstColumns(basis, looked), firstColumns(u, Math.min(looked, 2 * count)));
      }
      before = size;
    }
    const grown = qr(beside(basis, lastColumns(images, block.columns))).q;
    basis = beside(basis, lastColumns(grown, grown.columns - basis.columns));
  }
  return basis;
}

/** L with L·Lᵀ = g + a shift at the size of its rounding, so that a singular g is factored too. */
function cholesky({ rows: n, data }: Matrix): Matrix {
  let largest = 0;
  for (let i = 0; i < n; i++) largest = Math.max(largest, data[i * n + i]);
  const shift = Math.max(largest * n * Number.EPSILON, Number.MIN_VALUE ** 0.5);
  const lower = matrix(n, n, data);
  const l = lower.data;
  for (let j = 0; j < n; j++) {
    l[j * n + j] += shift;
    for (let i = j; i < n; i++) {
      let value = l[i * n + j];
      for (let k = 0, a = i * n, b = j * n; k < j; k++, a++, b++) value -= l[a] * l[b];
      l[i * n + j] = i === j ? Math.sqrt(Math.max(value, shift)) : value / l[j * n + j];
    }
  }
  return lower;
}

/** (L·Lᵀ)⁻¹·x; what lies above L's diagonal does not count. */
function solve({ rows: n, data: l }: Matrix, { columns, data }: Matrix): Matrix {
  const y = matrix(n, columns, data);
  const rows = Array.from({ length: n }, (_, i) => y.data.subarray(i * columns, (i + 1) * columns));
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) subtract(rows[i], rows[k], l[i * n + k]);
    divide(rows[i], l[i * n + i]);
  }
  // A row that is done is taken out of those above it, so that L is read along its rows.
  for (let i = n - 1; i >= 0; i--) {
    divide(rows[i], l[i * n + i]);
    for (let k = 0; k < i; k++) subtract(rows[k], rows[i], l[i * n + k]);
  }
  return y;
}

function subtract(to: Float64Array, from: Float64Array, factor: number): void {
  for (let c = 0; c < to.length; c++) to[c] -= factor * from[c];
}

function divide(values: Float64Array, by: number): void {
  for (let c = 0; c < values.length; c++) values[c] /= by;
}

function lastColumns({ rows, columns, data }: Matrix, count: number): Matrix {
  const last = matrix(rows, count);
  for (let i = 0; i < rows; i++) {
    last.data.set(data.subarray((i + 1) * columns - count, (i + 1) * columns), i * count);
  }
  return last;
}

/** The columns of both, [rows, a's + b's]. */
function beside(a: Matrix, b: Matrix): Matrix {
  const both = matrix(b.rows, a.columns + b.columns);
  for (let i = 0; i < b.rows; i++) {
    both.data.set(a.data.subarray(i * a.columns, (i + 1) * a.columns), i * both.columns);
    both.data.set(b.data.subarray(i * b.columns, (i + 1) * b.columns), i * both.columns + a.columns);
  }
  return both;
}
