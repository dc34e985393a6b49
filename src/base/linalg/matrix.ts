/** Small dense linear algebra in float64: what low-rank updates need, and nothing of a weight's cube. */

/** A row-major matrix. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
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

/** a·bᵀ: every row of a by every row of b, four rows of b in one pass over a row of a. */
export function multiplyRows(a: Matrix, b: Matrix): Matrix {
  if (a.columns !== b.columns) throw new Error(`sizes ${a.columns} and ${b.columns} do not meet`);
  const result = matrix(a.rows, b.rows);
  const inner = a.columns;
  const [left, right, to] = [a.data, b.data, result.data];
  for (let i = 0; i < a.rows; i++) {
    const start = i * inner;
    const out = i * b.rows;
    let j = 0;
    for (; j + 4 <= b.rows; j += 4) {
      let p0 = 0;
      let p1 = 0;
      let p2 = 0;
      let p3 = 0;
      for (let k = 0, r = j * inner; k < inner; k++, r++) {
        const x = left[start + k];
        p0 += x * right[r];
        p1 += x * right[r + inner];
        p2 += x * right[r + 2 * inner];
        p3 += x * right[r + 3 * inner];
      }
      to[out + j] = p0;
      to[out + j + 1] = p1;
      to[out + j + 2] = p2;
      to[out + j + 3] = p3;
    }
    for (; j < b.rows; j++) {
      let product = 0;
      for (let k = 0, r = j * inner; k < inner; k++, r++) product += left[start + k] * right[r];
      to[out + j] = product;
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
