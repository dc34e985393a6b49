import { Rng } from '../rng.js';
import {
  energy,
  type Matrix,
  matrix,
  multiply,
  multiplyRows,
  multiplyTransposed,
  transpose,
} from './matrix.js';
import { qr } from './qr.js';
import { leading, type Svd, svd, svdByGram } from './svd.js';

/** A triple is found where ‖A·v − s·u‖ is no more than this part of the largest singular value. */
const STILL = 1e-9;

/** The triples are looked at again when the subspace has grown by this much. */
const GROWTH = 1.4;

/** Directions beyond the rank that a block follows along. */
const OVERSAMPLE = 8;

/** With no more rows or columns, by Jacobi rotations. */
const SMALL = 96;

/** With no more rows or columns, and beyond this part of all directions, the whole SVD is faster. */
const WHOLE = { size: 320, part: 0.5 };

/**
 * The `rank` largest singular values of A and their vectors, as exact as the whole SVD's: a block Krylov space of A·Aᵀ
 * (Golub & Van Loan, section 10.3.6) that grows until the triples stand still, however close the values lie. Small
 * matrices are factored in whole, by the Gram matrix of the smaller side.
 */
export function leadingSvd(a: Matrix, rank: number): Svd {
  if (a.rows > a.columns) {
    const { u, s, vt } = leadingSvd(transpose(a), rank);
    return { u: transpose(vt), s, vt: transpose(u) };
  }
  if (rank > a.rows) throw new Error(`rank ${rank} is more than ${a.rows} × ${a.columns} has`);
  if (a.rows <= SMALL) return leading(svd(a), rank);
  const limit = a.rows <= WHOLE.size ? 0 : WHOLE.part * a.rows;
  const rng = new Rng(0, 'leading singular vectors');
  const start = Float64Array.from({ length: a.rows * (rank + OVERSAMPLE) }, () => rng.normal());
  // Rows of these two: orthonormal directions of the columns of A, and their images under Aᵀ.
  let basis = transpose(qr(matrix(a.rows, rank + OVERSAMPLE, start)).q);
  let block = basis;
  let images = matrix(0, a.columns);
  let looked = 0;
  while (basis.rows <= limit) {
    const image = multiply(block, a);
    images = below(images, image);
    if (basis.rows >= GROWTH * looked) {
      looked = basis.rows;
      const found = svdByGram(images);
      const u = multiplyTransposed(basis, found.u);
      const triples = leading({ ...found, u }, rank);
      if (residual(a, triples) <= STILL * triples.s[0]) return triples;
    }
    block = beside(basis, beside(basis, multiplyRows(image, a)));
    basis = below(basis, block);
  }
  return leading(svdByGram(a), rank);
}

/** Orthonormal rows that, with those of the basis, span what `rows` and the basis span. */
function beside(basis: Matrix, rows: Matrix): Matrix {
  const along = multiply(multiplyRows(rows, basis), basis);
  const left = { ...rows, data: rows.data.map((x, i) => x - along.data[i]) };
  return transpose(qr(transpose(left)).q);
}

/** The largest ‖A·v − s·u‖. */
function residual(a: Matrix, { u, s, vt }: Svd): number {
  const images = multiplyRows(vt, a);
  const left = transpose(u);
  let largest = 0;
  for (let k = 0; k < s.length; k++) {
    const from = k * a.rows;
    const rest = images.data.subarray(from, from + a.rows).map((x, i) => x - s[k] * left.data[from + i]);
    largest = Math.max(largest, Math.sqrt(energy(rest)));
  }
  return largest;
}

/** The rows of both. */
function below(a: Matrix, b: Matrix): Matrix {
  const both = matrix(a.rows + b.rows, b.columns);
  both.data.set(a.data);
  both.data.set(b.data, a.data.length);
  return both;
}
