/**
 * Half precision: IEEE 754 binary16 (1-5-10 bits) and bfloat16 (the upper half of a float32), to and from
 * float32 with round-to-nearest-even. Bits travel as Uint16 on a little-endian machine.
 */
import type { WeightDType } from '../base/tensor.js';

const F32_INFINITY = 0x7f800000;

let halfTable: Uint32Array | undefined;

/** The float32 bits of each of the 65,536 binary16 patterns. Bits, because JavaScript may change a NaN's payload. */
function halfBitsTable(): Uint32Array {
  if (halfTable !== undefined) return halfTable;
  const bits = new Uint32Array(65536);
  const values = new Float32Array(bits.buffer);
  for (let half = 0; half < 65536; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 31;
    const mantissa = half & 0x3ff;
    if (exponent === 0) values[half] = (sign < 0 ? -1 : 1) * mantissa * 2 ** -24;
    else if (exponent === 31) bits[half] = sign | F32_INFINITY | (mantissa << 13);
    else bits[half] = sign | ((exponent + 112) << 23) | (mantissa << 13);
  }
  halfTable = bits;
  return bits;
}

/** The float32 value of each of the 65,536 binary16 bit patterns. */
export function halfValues(): Float32Array {
  return new Float32Array(halfBitsTable().buffer);
}

/** binary16 bits to float32, exactly. Arrays of one length; `source` may be the upper half of `target`'s memory. */
export function f16ToF32(source: Uint16Array, target: Float32Array): void {
  const table = halfBitsTable();
  const bits = bitsOf(target);
  for (let i = 0; i < source.length; i++) bits[i] = table[source[i]];
}

/** float32 to the nearest binary16, ties to even; beyond 65,520 to infinity. Arrays of one length. */
export function f32ToF16(source: Float32Array, target: Uint16Array): void {
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) target[i] = halfBits(bits[i]);
}

function halfBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > F32_INFINITY) return sign | 0x7e00 | ((magnitude >>> 13) & 0x1ff); // a NaN stays a (quiet) NaN
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    const rebased = magnitude - 0x38000000;
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13); // the carry may run into the exponent
  }
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const rest = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const down = mantissa >>> shift;
  return sign | (rest > half || (rest === half && (down & 1) === 1) ? down + 1 : down);
}

/** bfloat16 bits to float32, exactly. Arrays of one length; `source` may be the upper half of `target`'s memory. */
export function bf16ToF32(source: Uint16Array, target: Float32Array): void {
  const bits = bitsOf(target);
  for (let i = 0; i < source.length; i++) bits[i] = source[i] << 16;
}

/** float32 to the nearest bfloat16, ties to even. Arrays of one length. */
export function f32ToBf16(source: Float32Array, target: Uint16Array): void {
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i];
    target[i] = (b & 0x7fffffff) > F32_INFINITY ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** The little-endian bytes of `values` rounded to `dtype`; for float32 a view, without a copy. */
export function encodeF32(values: Float32Array, dtype: WeightDType): Uint8Array {
  if (dtype === 'float64') return new Uint8Array(Float64Array.from(values).buffer);
  if (dtype === 'float32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const halves = new Uint16Array(values.length);
  if (dtype === 'float16') f32ToF16(values, halves);
  else f32ToBf16(values, halves);
  return new Uint8Array(halves.buffer);
}
