import { type Matrix, matrix } from './matrix.js';

/** Eigenvalues, largest first, and their vectors as rows [k, n]; where a value is 0, the vector may be 0 too. */
export interface Eigen {
  readonly values: Float64Array;
  readonly vectors: Matrix;
}

/**
 * All eigenvalues of a symmetric matrix [n, n], largest first, and unless `values` alone are wanted their vectors as rows
 * [n, n]: Householder's tridiagonal form and implicit QL (EISPACK's tred2 and tql2; Golub & Van Loan, section 8.3). The
 * lower triangle is read. Some 4/3·n³ operations for the values, about 8·n³ with the vectors.
 */
export function symmetricEigen(a: Matrix, wanted: 'values'): Float64Array;
export function symmetricEigen(a: Matrix, wanted: 'vectors'): Eigen;
export function symmetricEigen(a: Matrix, wanted: 'values' | 'vectors'): Float64Array | Eigen {
  const n = a.rows;
  if (n !== a.columns) throw new Error(`${n} × ${a.columns} is not symmetric`);
  const form = tridiagonal(a.data.slice(), n);
  const basis = wanted === 'vectors' ? basisOf(form, n) : undefined;
  implicitQl(form.diagonal, form.beside, basis, n);
  const order = Array.from(form.diagonal.keys()).sort((i, j) => form.diagonal[j] - form.diagonal[i]);
  const values = Float64Array.from(order, (i) => form.diagonal[i]);
  if (!basis) return values;
  const vectors = matrix(n, n);
  for (const [to, from] of order.entries()) {
    vectors.data.set(basis.subarray(from * n, (from + 1) * n), to * n);
  }
  return { values, vectors };
}

interface Tridiagonal {
  /** T's diagonal [n], and at i > 0 what stands beside it at (i, i − 1). */
  diagonal: Float64Array;
  beside: Float64Array;
  /** Row i holds, before its diagonal, the vector v of the reflection I − v·vᵀ/halves[i] that made it so; none where 0. */
  reflections: Float64Array;
  halves: Float64Array;
}

/** T of A = Q·T·Qᵀ, from the last row up; `a` is overwritten. */
function tridiagonal(a: Float64Array, n: number): Tridiagonal {
  const [diagonal, beside, halves] = [new Float64Array(n), new Float64Array(n), new Float64Array(n)];
  const p = new Float64Array(n);
  for (let i = n - 1; i > 0; i--) {
    const v = a.subarray(i * n, i * n + i);
    const last = v[i - 1];
    let before = 0;
    for (let k = 0; k < i - 1; k++) before += v[k] * v[k];
    if (before === 0) {
      beside[i] = last;
      continue;
    }
    const g = last > 0 ? -Math.sqrt(before + last * last) : Math.sqrt(before + last * last);
    const half = before + last * last - last * g;
    beside[i] = g;
    halves[i] = half;
    v[i - 1] = last - g;
    // B ← B − v·qᵀ − q·vᵀ over the rows before, with q = B·v/half less its part along v.
    p.fill(0, 0, i);
    for (let j = 0, row = 0; j < i; j++, row += n) {
      const along = v[j];
      let dot = a[row + j] * along;
      for (let k = 0; k < j; k++) {
        const x = a[row + k];
        dot += x * v[k];
        p[k] += x * along;
      }
      p[j] += dot;
    }
    let shared = 0;
    for (let k = 0; k < i; k++) {
      p[k] /= half;
      shared += v[k] * p[k];
    }
    shared /= 2 * half;
    for (let k = 0; k < i; k++) p[k] -= shared * v[k];
    for (let j = 0, row = 0; j < i; j++, row += n) {
      const [x, y] = [v[j], p[j]];
      for (let k = 0; k <= j; k++) a[row + k] -= x * p[k] + y * v[k];
    }
  }
  for (let i = 0; i < n; i++) diagonal[i] = a[i * (n + 1)];
  return { diagonal, beside, reflections: a, halves };
}

/** Q's columns, as rows. */
function basisOf({ reflections, halves }: Tridiagonal, n: number): Float64Array {
  const basis = new Float64Array(n * n);
  for (let i = 0; i < n; i++) basis[i * (n + 1)] = 1;
  for (let i = 1; i < n; i++) {
    if (halves[i] === 0) continue;
    const v = reflections.subarray(i * n, i * n + i);
    for (let j = 0; j < i; j++) {
      const row = basis.subarray(j * n, j * n + i);
      let dot = 0;
      for (let k = 0; k < i; k++) dot += row[k] * v[k];
      dot /= halves[i];
      for (let k = 0; k < i; k++) row[k] -= dot * v[k];
    }
  }
  return basis;
}

/** More rounds for one value than were ever seen to be needed. */
const MAX_ROUNDS = 60;

/** Leaves T's eigenvalues in d, and turns the rows of `basis` into their vectors. */
function implicitQl(d: Float64Array, beside: Float64Array, basis: Float64Array | undefined, n: number): void {
  const e = new Float64Array(n);
  e.set(beside.subarray(1));
  for (let l = 0; l < n; l++) {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      let m = l;
      while (m < n - 1 && Math.abs(e[m]) > Number.EPSILON * (Math.abs(d[m]) + Math.abs(d[m + 1]))) m++;
      if (m === l) break;
      const g = (d[l + 1] - d[l]) / (2 * e[l]);
      const r = Math.hypot(g, 1);
      // What is chased up from the end, begun with Wilkinson's shift.
      let bulge = d[m] - d[l] + e[l] / (g + (g < 0 ? -r : r));
      let [sin, cos, shift] = [1, 1, 0];
      let i = m - 1;
      for (; i >= l; i--) {
        const f = sin * e[i];
        const b = cos * e[i];
        const length = Math.hypot(f, bulge);
        e[i + 1] = length;
        if (length === 0) {
          d[i + 1] -= shift;
          e[m] = 0;
          break;
        }
        sin = f / length;
        cos = bulge / length;
        const next = d[i + 1] - shift;
        const turned = (d[i] - next) * sin + 2 * cos * b;
        shift = sin * turned;
        d[i + 1] = next + shift;
        bulge = cos * turned - b;
        if (basis) rotate(basis, i * n, (i + 1) * n, n, cos, sin);
      }
      if (i >= l) continue;
      d[l] -= shift;
      e[l] = bulge;
      e[m] = 0;
    }
  }
}

function rotate(rows: Float64Array, at: number, next: number, n: number, cos: number, sin: number): void {
  for (let k = 0; k < n; k++) {
    const x = rows[at + k];
    const y = rows[next + k];
    rows[next + k] = sin * x + cos * y;
    rows[at + k] = cos * x - sin * y;
  }
}
