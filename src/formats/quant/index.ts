/** The formats in which a base's matrices may lie: NF4 for training, blocks of 4 or 8 bits for serving. */
import type { GgmlType } from '../gguf/types.js';
import { blocksOfRow, dequantizeBlocks, INT_BLOCK, type IntBits, quantizeBlocks } from './blocks.js';
import { q4_0, q8_0 } from './gguf.js';
import { dequantizeNf4, doublyQuantized, NF4_BLOCK, quantizeNf4 } from './nf4.js';

/** A quantized matrix: codes as bytes and a scale a block. */
export interface Quantized {
  codes: Uint8Array;
  scales: Float32Array;
}

/** [out, in] of a matrix. */
export type MatrixShape = readonly [rows: number, columns: number];

export interface QuantCodec {
  /** How many scales and bytes of codes a matrix has. */
  sizes(shape: MatrixShape): { scales: number; codes: number };
  quantize(values: Float32Array, shape: MatrixShape): Quantized;
  dequantize(quantized: Quantized, shape: MatrixShape): Float32Array;
  /** llama.cpp's blocks that have this layout, and how they become it without rounding. */
  gguf?: { type: GgmlType; convert(blocks: Uint8Array): Quantized };
}

const nf4: QuantCodec = {
  sizes: ([rows, columns]) => ({
    scales: Math.ceil((rows * columns) / NF4_BLOCK),
    codes: Math.ceil((rows * columns) / 2),
  }),
  // Scales are kept as their 8 bits say, in float32: the engine's product takes no others.
  quantize(values) {
    const { codes, absmax } = quantizeNf4(values);
    return { codes, scales: doublyQuantized(absmax) };
  },
  dequantize({ codes, scales }, [rows, columns]) {
    const target = new Float32Array(rows * columns);
    dequantizeNf4(codes, scales, target);
    return target;
  },
};

function intCodec(bits: IntBits, gguf: QuantCodec['gguf']): QuantCodec {
  return {
    sizes: ([rows, columns]) => {
      const scales = rows * blocksOfRow(columns);
      return { scales, codes: (scales * INT_BLOCK * bits) / 8 };
    },
    quantize: (values, [rows, columns]) => quantizeBlocks(values, rows, columns, bits),
    dequantize: ({ codes, scales }, [rows, columns]) => dequantizeBlocks(codes, scales, rows, columns, bits),
    gguf,
  };
}

export const quantCodecs = { nf4, int8: intCodec(8, q8_0), int4: intCodec(4, q4_0) };

export type QuantFormat = keyof typeof quantCodecs;

export const quantFormats = Object.keys(quantCodecs) as QuantFormat[];

/** A part of a stored matrix: where it begins in its bytes, and how many it has. */
export interface Part {
  offset: number;
  length: number;
}

/** The parts of a stored matrix: scales and ‖row‖² of each row in float32, then codes. */
export function packedParts(
  format: QuantFormat,
  shape: MatrixShape,
): Record<'scales' | 'rowSquares' | 'codes', Part> {
  const { scales, codes } = quantCodecs[format].sizes(shape);
  const first = { offset: 0, length: scales * 4 };
  const second = { offset: first.length, length: shape[0] * 4 };
  return {
    scales: first,
    rowSquares: second,
    codes: { offset: first.length + second.length, length: codes },
  };
}

/** Bytes of a stored matrix, filled up so that what follows is aligned. */
export function packedBytes(format: QuantFormat, shape: MatrixShape): number {
  const { offset, length } = packedParts(format, shape).codes;
  return Math.ceil((offset + length) / 16) * 16;
}

/** A quantized matrix as it is stored. */
export function pack(format: QuantFormat, quantized: Quantized, shape: MatrixShape): Uint8Array {
  const parts = packedParts(format, shape);
  const bytes = new Uint8Array(packedBytes(format, shape));
  const values = quantCodecs[format].dequantize(quantized, shape);
  const floats = new Float32Array(bytes.buffer, 0, parts.codes.offset / 4);
  floats.set(quantized.scales);
  floats.set(rowSquares(values, shape), parts.rowSquares.offset / 4);
  bytes.set(quantized.codes, parts.codes.offset);
  return bytes;
}

function rowSquares(values: Float32Array, [rows, columns]: MatrixShape): Float32Array {
  return Float32Array.from({ length: rows }, (_, row) => {
    let total = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) total += values[i] * values[i];
    return total;
  });
}

/** What `pack` stored. */
export function unpack(format: QuantFormat, bytes: Uint8Array, shape: MatrixShape): Quantized {
  const { scales, codes } = packedParts(format, shape);
  return {
    scales: new Float32Array(bytes.slice(0, scales.length).buffer),
    codes: bytes.slice(codes.offset, codes.offset + codes.length),
  };
}
