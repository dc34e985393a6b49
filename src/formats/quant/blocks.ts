/**
 * Blocks of 32 weights of a row with a scale each, in the layout of com.microsoft's MatMulNBits: codes as unsigned
 * numbers around half their range, a row's last block filled up with zeros; 4-bit codes two a byte, the first one low.
 */
export const INT_BLOCK = 32;

export type IntBits = 4 | 8;

/** Blocks that a row of `columns` weights takes. */
export function blocksOfRow(columns: number): number {
  return Math.ceil(columns / INT_BLOCK);
}

/**
 * Codes [rows, blocks, 16 or 32 bytes] and scales [rows, blocks] of a matrix. 8 bits: scale = largest magnitude / 127.
 * 4 bits as in llama.cpp's Q4_0: the value of largest magnitude becomes -8, whichever its sign.
 */
export function quantizeBlocks(
  values: Float32Array,
  rows: number,
  columns: number,
  bits: IntBits,
): { codes: Uint8Array; scales: Float32Array } {
  const perRow = blocksOfRow(columns);
  const scales = new Float32Array(rows * perRow);
  const blockBytes = (INT_BLOCK * bits) / 8;
  const codes = new Uint8Array(scales.length * blockBytes).fill(bits === 4 ? 0x88 : 0x80);
  for (let block = 0; block < scales.length; block++) {
    const inRow = (block % perRow) * INT_BLOCK;
    const at = Math.floor(block / perRow) * columns + inRow;
    const part = values.subarray(at, at + Math.min(INT_BLOCK, columns - inRow));
    const top = extreme(part);
    scales[block] = bits === 4 ? top / -8 : Math.abs(top) / 127;
    const factor = scales[block] === 0 ? 0 : 1 / scales[block];
    const start = block * blockBytes;
    for (let i = 0; i < part.length; i++) {
      if (bits === 8) codes[start + i] = Math.round(part[i] * factor) + 128;
      else setNibble(codes, start + (i >> 1), i & 1, Math.min(15, Math.floor(part[i] * factor + 8.5)));
    }
  }
  return { codes, scales };
}

/** The value of largest magnitude, with its sign. */
function extreme(part: Float32Array): number {
  let found = 0;
  for (const v of part) if (Math.abs(v) > Math.abs(found)) found = v;
  return found;
}

function setNibble(codes: Uint8Array, at: number, high: number, code: number): void {
  codes[at] = high ? (codes[at] & 0x0f) | (code << 4) : (codes[at] & 0xf0) | code;
}

/** The matrix that quantizeBlocks encoded: (code - half) · scale. */
export function dequantizeBlocks(
  codes: Uint8Array,
  scales: Float32Array,
  rows: number,
  columns: number,
  bits: IntBits,
): Float32Array {
  const perRow = blocksOfRow(columns);
  const rowBytes = (perRow * INT_BLOCK * bits) / 8;
  const target = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < columns; i++) {
      const byte = codes[row * rowBytes + (bits === 4 ? i >> 1 : i)];
      const code = bits === 8 ? byte - 128 : (i & 1 ? byte >>> 4 : byte & 15) - 8;
      target[row * columns + i] = code * scales[row * perRow + Math.floor(i / INT_BLOCK)];
    }
  }
  return target;
}
