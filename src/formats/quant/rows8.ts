/** Matrices in 8 bits with a scale a row, as products of whole numbers take them. */
import type { MatrixShape, Quantized } from './index.js';

/** What stands for 0 among the codes: engines' kernels for two unsigned operands are exact, those for a signed one may saturate. */
export const CODE_OF_ZERO = 128;

const TILE = 32;

/**
 * Codes of a matrix [rows, columns], and scales, [rows]: the largest magnitude of a row / 127. `turned`: codes are [columns, rows],
 * else [rows, columns].
 */
export function quantizeRows(
  values: Float32Array,
  [rows, columns]: MatrixShape,
  { turned }: { turned: boolean },
): Quantized {
  const codes = new Uint8Array(values.length);
  const scales = new Float32Array(rows);
  const factors = new Float32Array(rows);
  for (let i = 0; i < rows; i++) {
    let most = 0;
    for (let at = i * columns; at < (i + 1) * columns; at++) most = Math.max(most, Math.abs(values[at]));
    scales[i] = most / 127;
    factors[i] = scales[i] === 0 ? 0 : 1 / scales[i];
  }
  // Some rows at a time, so that both walks stay in the processor's cache where the codes are turned.
  for (let first = 0; first < rows; first += TILE) {
    const end = Math.min(rows, first + TILE);
    for (let j = 0; j < columns; j++) {
      for (let i = first; i < end; i++)
        // An array of bytes takes the whole part.
        codes[turned ? j * rows + i : i * columns + j] =
          values[i * columns + j] * factors[i] + CODE_OF_ZERO + 0.5;
    }
  }
  return { codes, scales };
}
