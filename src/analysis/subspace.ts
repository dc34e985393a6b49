/** How much the directions of two matrices have in common. */
import { firstRows, type Matrix, matrix, multiplyRows, transpose } from '../base/linalg/matrix.js';
import { qr } from '../base/linalg/qr.js';
import { svd } from '../base/linalg/svd.js';
import { Rng } from '../base/rng.js';
import type { Update } from './operator.js';
import type { Spectrum } from './spectrum.js';

/** Orthonormal rows [k, d], the most important first. */
export type Directions = Matrix;

/** Less than this part of the largest singular value is rounding, and no direction. */
const NONE = 1e-6;

/**
 * The directions in which a change reads and writes: the right-singular vectors of A and the left-singular ones of B, as in
 * section 7.2 of the paper, each by its own singular values; of a dense change, which has no A and B, ΔW's own, as many
 * as its spectrum has vectors.
 */
export function directionsOf(update: Update, { top }: Spectrum): { a: Directions; b: Directions } {
  if (update.kind === 'dense') {
    return { a: real(top.vt, top.s), b: real(transpose(top.u), top.s) };
  }
  const [a, b] = [svd(update.a), svd(update.b)];
  return { a: real(a.vt, a.s), b: real(transpose(b.u), b.s) };
}

function real(rows: Matrix, s: Float64Array): Directions {
  const count = s.findIndex((value) => value <= NONE * s[0]);
  return count < 0 ? rows : firstRows(rows, count);
}

/** The directions of a random Gaussian matrix [rows, columns]: rows of length `columns`. Equal seeds and names give equal ones. */
export function randomDirections(rows: number, columns: number, seed: number, name: string): Directions {
  const rng = new Rng(seed, `random directions ${name}`);
  const drawn = matrix(columns, rows);
  for (let i = 0; i < drawn.data.length; i++) drawn.data[i] = rng.normal();
  // Those of a Gaussian matrix are distributed as orthonormal ones drawn without any preference.
  return transpose(qr(drawn).q);
}

/**
 * φ(i, j) = ‖U₁ⁱᵀU₂ʲ‖²_F / min(i, j) of the first i directions of one matrix and the first j of another, as a table over
 * all i and j: 1 where one space holds the other, 0 where they are orthogonal (Hu et al., arXiv:2106.09685, eq. 4).
 */
export function similarity(first: Directions, second: Directions): number[][] {
  const { data, rows, columns } = multiplyRows(first, second);
  const shared: number[][] = [];
  for (let i = 0; i < rows; i++) {
    let row = 0;
    shared.push(
      Array.from({ length: columns }, (_, j) => {
        row += data[i * columns + j] ** 2;
        return row + (shared[i - 1]?.[j] ?? 0);
      }),
    );
  }
  return shared.map((row, i) => row.map((sum, j) => Math.min(1, sum / Math.min(i + 1, j + 1))));
}

/** What φ(i, j) is on average where one of the two spaces is random in d dimensions. */
export function expectedSimilarity(i: number, j: number, d: number): number {
  return Math.max(i, j) / d;
}

/**
 * Grassmann distance by its geodesic: √Σθ² over the principal angles of two spaces; of spaces of different dimension those
 * of the smaller (Ye & Lim, arXiv:1407.0900). It is 0 where one holds the other.
 */
export function grassmannDistance(first: Directions, second: Directions): number {
  if (first.rows === 0 || second.rows === 0) return 0;
  const { s } = svd(multiplyRows(first, second));
  let sum = 0;
  for (const cosine of s) sum += Math.acos(Math.min(1, cosine)) ** 2;
  return Math.sqrt(sum);
}

/** What the distance is where two spaces are orthogonal: √p·π/2, p being the smaller dimension. */
export function mostDistance(first: Directions, second: Directions): number {
  return (Math.sqrt(Math.min(first.rows, second.rows)) * Math.PI) / 2;
}
