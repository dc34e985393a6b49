/** LoftQ (Li et al., arXiv:2310.08659): a matrix as a quantized one and a low-rank one that makes up for its rounding. */
import { matrix, multiply, scaleColumns } from '../../base/linalg/matrix.js';
import { type Svd, truncatedSvd } from '../../base/linalg/svd.js';
import { type MatrixShape, type QuantFormat, type Quantized, quantCodecs } from './index.js';

/** How a matrix is shared between codes and a low-rank part. */
export interface Alternation {
  /** Rank of the low-rank part. */
  r: number;
  /** How often the matrix is quantized, T; with 1 the codes are those of plain quantization. */
  iterations: number;
}

/**
 * The rank-r part of what `held`, a quantized matrix as it is read back, lacks of the original. What quantizing leaves
 * has a flat spectrum, so the power iteration is given time: 8 passes reach 99% of the energy of the exact part on real
 * matrices, 4 reach 96%.
 */
export function lostPart(
  original: Float32Array,
  held: Float32Array,
  [rows, columns]: MatrixShape,
  r: number,
): Svd {
  const lost = original.map((x, i) => x - held[i]);
  return truncatedSvd(matrix(rows, columns, lost), r, { iterations: 8 });
}

/**
 * Q_T of LoftQ's alternation: Q₁ = q(W), and Q_t = q(W − L_{t−1}) with L_t the rank-r part of W − Q_t. The low-rank part
 * that belongs to the result is its lostPart.
 */
export function quantizeAlternately(
  values: Float32Array,
  shape: MatrixShape,
  format: QuantFormat,
  { r, iterations }: Alternation,
): Quantized {
  const codec = quantCodecs[format];
  let quantized = codec.quantize(values, shape);
  for (let t = 1; t < iterations; t++) {
    const { u, s, vt } = lostPart(values, codec.dequantize(quantized, shape), shape, r);
    const low = multiply(scaleColumns(u, s), vt).data;
    quantized = codec.quantize(
      values.map((x, i) => x - low[i]),
      shape,
    );
  }
  return quantized;
}
