/**
 * ggml's block formats to float32, bit for bit what the gguf package of llama.cpp computes: every
 * product and difference is rounded to float32 where its C and NumPy do.
 * Layouts: ggml-common.h, arithmetic: dequantize_row_* in ggml-quants.c.
 */
import { bf16ToF32, f16ToF32, halfValues } from '../float16.js';
import { GGML_TYPES, type GgmlType } from './types.js';

/** Fills `target` from whole blocks. */
type Dequantize = (source: Uint8Array, target: Float32Array) => void;

const { fround } = Math;

/** Values of `type` as float32; `target` has as many elements as `source` has in its blocks. */
export function dequantize(type: GgmlType, source: Uint8Array, target: Float32Array): void {
  const { elements, bytes } = GGML_TYPES[type];
  if (source.length / bytes !== target.length / elements) {
    throw new Error(`${source.length} bytes of ${type} do not fill ${target.length} elements`);
  }
  DEQUANTIZE[type](source, target);
}

const f32: Dequantize = (source, target) => {
  new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(source);
};

const f16: Dequantize = (source, target) => f16ToF32(halvesOf(source), target);

const bf16: Dequantize = (source, target) => bf16ToF32(halvesOf(source), target);

function halvesOf(source: Uint8Array): Uint16Array {
  const aligned = source.byteOffset % 2 === 0 ? source : source.slice();
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.length / 2);
}

/** Reads the float16 scales inside blocks. */
function halfReader(source: Uint8Array): (at: number) => number {
  const values = halfValues();
  return (at) => values[source[at] | (source[at + 1] << 8)];
}

/** [d: half][16 × low and high nibble]: d·(q - 8), low nibbles first. */
const q4_0: Dequantize = (source, target) => {
  const half = halfReader(source);
  for (let p = 0, o = 0; p < source.length; p += 18, o += 32) {
    const d = half(p);
    for (let j = 0; j < 16; j++) {
      const q = source[p + 2 + j];
      target[o + j] = d * ((q & 15) - 8);
      target[o + 16 + j] = d * ((q >>> 4) - 8);
    }
  }
};

/** [d: half][m: half][16 nibble pairs]: d·q + m. */
const q4_1: Dequantize = (source, target) => {
  const half = halfReader(source);
  for (let p = 0, o = 0; p < source.length; p += 20, o += 32) {
    const d = half(p);
    const m = half(p + 2);
    for (let j = 0; j < 16; j++) {
      const q = source[p + 4 + j];
      target[o + j] = fround(d * (q & 15)) + m;
      target[o + 16 + j] = fround(d * (q >>> 4)) + m;
    }
  }
};

/** [d: half][32 fifth bits][16 nibble pairs]: d·(q - 16). */
const q5_0: Dequantize = (source, target) => {
  const half = halfReader(source);
  for (let p = 0, o = 0; p < source.length; p += 22, o += 32) {
    const d = half(p);
    for (let j = 0; j < 16; j++) {
      const q = source[p + 6 + j];
      target[o + j] = d * (((q & 15) | fifthBit(source, p + 2, j)) - 16);
      target[o + 16 + j] = d * (((q >>> 4) | fifthBit(source, p + 2, 16 + j)) - 16);
    }
  }
};

/** [d: half][m: half][32 fifth bits][16 nibble pairs]: d·q + m. */
const q5_1: Dequantize = (source, target) => {
  const half = halfReader(source);
  for (let p = 0, o = 0; p < source.length; p += 24, o += 32) {
    const d = half(p);
    const m = half(p + 2);
    for (let j = 0; j < 16; j++) {
      const q = source[p + 8 + j];
      target[o + j] = fround(d * ((q & 15) | fifthBit(source, p + 4, j))) + m;
      target[o + 16 + j] = fround(d * ((q >>> 4) | fifthBit(source, p + 4, 16 + j))) + m;
    }
  }
};

/** Bit `index` of the bits that begin at byte `at`, as 16 or 0. */
function fifthBit(source: Uint8Array, at: number, index: number): number {
  return ((source[at + (index >>> 3)] >>> (index & 7)) & 1) << 4;
}

/** [d: half][32 × int8]: d·q. */
const q8_0: Dequantize = (source, target) => {
  const half = halfReader(source);
  const signed = new Int8Array(source.buffer, source.byteOffset, source.length);
  for (let p = 0, o = 0; p < source.length; p += 34, o += 32) {
    const d = half(p);
    for (let j = 0; j < 32; j++) target[o + j] = d * signed[p + 2 + j];
  }
};

/** The 6-bit scale and minimum of sub-block `j` (0 … 7), packed into 12 bytes at `p` as Q4_K and Q5_K do. */
function scaleAndMin(s: Uint8Array, p: number, j: number): [scale: number, min: number] {
  if (j < 4) return [s[p + j] & 63, s[p + 4 + j] & 63];
  return [(s[p + 4 + j] & 15) | ((s[p + j - 4] >>> 6) << 4), (s[p + 4 + j] >>> 4) | ((s[p + j] >>> 6) << 4)];
}

/** [d: half][dmin: half][12 bytes of scales][128 nibble pairs]: eight sub-blocks of 32, d·scale·q - dmin·min. */
const q4_K: Dequantize = (source, target) => {
  const half = halfReader(source);
  for (let p = 0, o = 0; p < source.length; p += 144, o += 256) {
    for (let j = 0; j < 8; j++) {
      const [scale, min] = scaleAndMin(source, p + 4, j);
      const d = fround(half(p) * scale);
      const m = fround(half(p + 2) * min);
      const quants = p + 16 + (j >>> 1) * 32;
      const shift = (j & 1) * 4;
      for (let i = 0; i < 32; i++) {
        target[o + j * 32 + i] = fround(d * ((source[quants + i] >>> shift) & 15)) - m;
      }
    }
  }
};

/** As Q4_K with [32 bytes of fifth bits], bit j of byte i for element i of sub-block j, before the nibbles. */
const q5_K: Dequantize = (source, target) => {
  const half = halfReader(source);
  for (let p = 0, o = 0; p < source.length; p += 176, o += 256) {
    for (let j = 0; j < 8; j++) {
      const [scale, min] = scaleAndMin(source, p + 4, j);
      const d = fround(half(p) * scale);
      const m = fround(half(p + 2) * min);
      const quants = p + 48 + (j >>> 1) * 32;
      const shift = (j & 1) * 4;
      for (let i = 0; i < 32; i++) {
        const q = ((source[quants + i] >>> shift) & 15) | (((source[p + 16 + i] >>> j) & 1) << 4);
        target[o + j * 32 + i] = fround(d * q) - m;
      }
    }
  }
};

/**
 * [128 low nibble pairs][64 bytes of upper bit pairs][16 × int8 scale][d: half]: sixteen sub-blocks of 16,
 * d·scale·(q - 32). Each half of 128 elements is four runs of 32: low nibbles of bytes 0-31 and 32-63, then
 * their high nibbles; the run's number picks the bit pair.
 */
const q6_K: Dequantize = (source, target) => {
  const half = halfReader(source);
  const signed = new Int8Array(source.buffer, source.byteOffset, source.length);
  for (let p = 0, o = 0; p < source.length; p += 210, o += 256) {
    const d = half(p + 208);
    for (let sub = 0; sub < 16; sub++) {
      const scaled = fround(d * signed[p + 192 + sub]);
      const run = (sub >>> 1) & 3;
      const low = p + (sub >>> 3) * 64 + (run & 1) * 32;
      const high = p + 128 + (sub >>> 3) * 32;
      for (let i = (sub & 1) * 16, e = o + sub * 16; e < o + sub * 16 + 16; i++, e++) {
        const q =
          ((source[low + i] >>> ((run >>> 1) * 4)) & 15) | (((source[high + i] >>> (run * 2)) & 3) << 4);
        target[e] = scaled * (q - 32);
      }
    }
  }
};

const DEQUANTIZE: Readonly<Record<GgmlType, Dequantize>> = {
  F32: f32,
  F16: f16,
  BF16: bf16,
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q8_0: q8_0,
  Q4_K: q4_K,
  Q5_K: q5_K,
  Q6_K: q6_K,
};
