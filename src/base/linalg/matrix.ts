/** Small dense linear algebra in float64: what low-rank updates need, and nothing of a weight's cube. */

/** A row-major matrix. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

/** A product b·a that is not formed, b [m, r] and a [r, n]. */
export interface Factors {
  readonly b: Matrix;
  readonly a: Matrix;
}

/** A matrix of `data` (row-major; copied to float64), or of zeros. Throws where the sizes disagree. */
export function matrix(rows: number, columns: number, data?: ArrayLike<number>): Matrix {
  if (data && data.length !== rows * columns) {
    throw new Error(`${data.length} elements do not fill ${rows} × ${columns}`);
  }
  return { rows, columns, data: data ? Float64Array.from(data) : new Float64Array(rows * columns) };
}

/** The elements in float32, row-major. */
export function toFloat32({ data }: Matrix): Float32Array {
  return Float32Array.from(data);
}

export function transpose({ rows, columns, data }: Matrix): Matrix {
  const result = matrix(columns, rows);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) result.data[j * rows + i] = data[i * columns + j];
  }
  return result;
}

/** a·b */
export function multiply(a: Matrix, b: Matrix): Matrix {
  return multiplyRows(a, transpose(b));
}

/** aᵀ·b */
export function multiplyTransposed(a: Matrix, b: Matrix): Matrix {
  return multiplyRows(transpose(a), transpose(b));
}

/** a·bᵀ: every row of a by every row of b, tiles of 2 × 4 rows in one pass: so many sums stay in registers. */
export function multiplyRows(a: Matrix, b: Matrix): Matrix {
  if (a.columns !== b.columns) throw new Error(`sizes ${a.columns} and ${b.columns} do not meet`);
  const [m, n, inner] = [a.rows, b.rows, a.columns];
  const result = matrix(m, n);
  const [left, right, to] = [a.data, b.data, result.data];
  const tiledRows = m - (m % 2);
  const tiledColumns = n - (n % 4);
  for (let i = 0; i < tiledRows; i += 2) {
    for (let j = 0; j < tiledColumns; j += 4) {
      let [p0, p1, p2, p3, q0, q1, q2, q3] = [0, 0, 0, 0, 0, 0, 0, 0];
      for (let k = 0, l = i * inner, r = j * inner; k < inner; k++, l++, r++) {
        const x = left[l];
        const y = left[l + inner];
        const z0 = right[r];
        const z1 = right[r + inner];
        const z2 = right[r + 2 * inner];
        const z3 = right[r + 3 * inner];
        p0 += x * z0;
        q0 += y * z0;
        p1 += x * z1;
        q1 += y * z1;
        p2 += x * z2;
        q2 += y * z2;
        p3 += x * z3;
        q3 += y * z3;
      }
      const out = i * n + j;
      to[out] = p0;
      to[out + 1] = p1;
      to[out + 2] = p2;
      to[out + 3] = p3;
      to[out + n] = q0;
      to[out + n + 1] = q1;
      to[out + n + 2] = q2;
      to[out + n + 3] = q3;
    }
  }
  for (let i = 0; i < m; i++) {
    for (let j = i < tiledRows ? tiledColumns : 0; j < n; j++) {
      let product = 0;
      for (let k = 0, l = i * inner, r = j * inner; k < inner; k++, l++, r++) product += left[l] * right[r];
      to[i * n + j] = product;
    }
  }
  return result;
}

/** The first `count` columns. */
export function firstColumns({ rows, columns, data }: Matrix, count: number): Matrix {
  const result = matrix(rows, count);
  for (let i = 0; i < rows; i++) {
    result.data.set(data.subarray(i * columns, i * columns + count), i * count);
  }
  return result;
}

/** The first `count` rows. */
export function firstRows({ columns, data }: Matrix, count: number): Matrix {
  return { rows: count, columns, data: data.slice(0, count * columns) };
}

/** Column j times factor[j]. */
export function scaleColumns({ rows, columns, data }: Matrix, factors: ArrayLike<number>): Matrix {
  return { rows, columns, data: data.map((x, i) => x * factors[i % columns]) };
}

/** Row i times factor[i]. */
export function scaleRows({ rows, columns, data }: Matrix, factors: ArrayLike<number>): Matrix {
  return { rows, columns, data: data.map((x, i) => x * factors[Math.floor(i / columns)]) };
}

/** Σ of the squares of all elements. */
export function energy(data: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < data.length; i++) total += data[i] * data[i];
  return total;
}
