/** The float32 door to this folder: row-major arrays in and out, float64 inside. */
import { matrix, toFloat32 } from './matrix.js';
import { qr } from './qr.js';
import { svd } from './svd.js';

/** Thin QR of a row-major [rows, columns] array: q [rows, k] orthonormal, r [k, columns], k = min(rows, columns). */
export function thinQr(
  data: ArrayLike<number>,
  rows: number,
  columns: number,
): { q: Float32Array; r: Float32Array } {
  const { q, r } = qr(matrix(rows, columns, data));
  return { q: toFloat32(q), r: toFloat32(r) };
}

/** The min(rows, columns) singular values of a row-major [rows, columns] array, largest first. */
export function singularValues(data: ArrayLike<number>, rows: number, columns: number): number[] {
  return [...svd(matrix(rows, columns, data)).s];
}
