import { type Matrix, matrix, transpose } from './matrix.js';

/**
 * Thin QR by Householder reflections: a [m, n] = q·r with q [m, k] orthonormal and r [k, n] upper triangular,
 * k = min(m, n), or with `first` only q's first columns and r's first rows. Signs are LAPACK's (and so PyTorch's): r's diagonal is opposite in sign to what it eliminates.
 */
export function qr(a: Matrix, first = Number.POSITIVE_INFINITY): { q: Matrix; r: Matrix } {
  const { rows: m, columns: n } = a;
  const k = Math.min(m, n, first);
  // Columns one after the other: column j lies at j·m.
  const work = transpose(a).data;
  const factors = new Float64Array(k);
  for (let j = 0; j < k; j++) factors[j] = eliminate(work, j, m, n);

  const r = matrix(k, n);
  for (let j = 0; j < n; j++) {
    for (let i = 0; i <= Math.min(j, k - 1); i++) r.data[i * n + j] = work[j * m + i];
  }
  const q = new Float64Array(k * m);
  for (let j = 0; j < k; j++) q[j * m + j] = 1;
  for (let j = k - 1; j >= 0; j--) reflect(work, j, m, factors[j], q, j, k);
  return { q: transpose({ rows: k, columns: m, data: q }), r };
}

/**
 * Makes column j zero below its diagonal, and applies the same reflection I − τ·v·vᵀ to the columns after it. v, whose
 * first element is 1, is left below the diagonal. Returns τ.
 */
function eliminate(work: Float64Array, j: number, m: number, n: number): number {
  const start = j * m;
  let below = 0;
  for (let i = j + 1; i < m; i++) below += work[start + i] ** 2;
  // Nothing to eliminate: LAPACK leaves the column, sign included.
  if (below === 0) return 0;
  const head = work[start + j];
  const diagonal = -(head < 0 ? -1 : 1) * Math.sqrt(head * head + below);
  const scale = 1 / (head - diagonal);
  for (let i = j + 1; i < m; i++) work[start + i] *= scale;
  work[start + j] = diagonal;
  const tau = (diagonal - head) / diagonal;
  reflect(work, j, m, tau, work, j + 1, n);
  return tau;
}

/** Applies reflection j to columns `from` … `to`-1 of `target`. */
function reflect(
  work: Float64Array,
  j: number,
  m: number,
  tau: number,
  target: Float64Array,
  from: number,
  to: number,
): void {
  if (tau === 0) return;
  const v = j * m;
  for (let c = from; c < to; c++) {
    const start = c * m;
    let dot = target[start + j];
    for (let i = j + 1; i < m; i++) dot += work[v + i] * target[start + i];
    dot *= tau;
    target[start + j] -= dot;
    for (let i = j + 1; i < m; i++) target[start + i] -= dot * work[v + i];
  }
}
