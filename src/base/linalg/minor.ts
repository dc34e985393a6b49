import { Rng } from '../rng.js';
import { type Matrix, matrix, multiply, transpose } from './matrix.js';
import { qr } from './qr.js';
import { svd } from './svd.js';

const MAX_ITERATIONS = 200;

/** How still the Ritz values are at the end, relative to the largest. */
const STILL = 1e-10;

/**
 * The last `count` columns of U in the thin SVD W = U·diag(s)·Vᵀ, [rows, count], s descending: the directions of W's
 * smallest singular values. By block inverse iteration with the smaller of WᵀW and WWᵀ, so that a matrix of
 * some hundred rows takes a fraction of a second, where the whole SVD takes many.
 */
export function minorLeftVectors(w: Matrix, count: number): Matrix {
  const n = Math.min(w.rows, w.columns);
  const tall = w.rows > w.columns;
  const lower = cholesky(tall ? multiply(transpose(w), w) : multiply(w, transpose(w)));
  // More directions than wanted make it converge.
  const block = Math.min(n, 2 * count + 8);
  const rng = new Rng(0, 'minor vectors');
  let x = qr(
    matrix(
      n,
      block,
      Float64Array.from({ length: n * block }, () => rng.normal()),
    ),
  ).q;
  let before = Number.POSITIVE_INFINITY;
  for (let i = 0; i < MAX_ITERATIONS; i++) {
    const { q, r } = qr(solve(lower, x));
    x = q;
    let size = 0;
    for (let j = 0; j < count; j++) size += Math.abs(r.data[j * r.columns + j]);
    if (Math.abs(size - before) <= STILL * size) break;
    before = size;
  }
  // Rayleigh–Ritz: the block's own singular vectors, of which the last are the smallest.
  const { u, vt } = svd(multiply(tall ? w : transpose(w), x));
  // Directions of the singular value 0 come as zeros: QR completes them and leaves the others as they are.
  return lastColumns(qr(tall ? u : multiply(x, transpose(vt))).q, count);
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
