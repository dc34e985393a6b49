/**
 * NF4 (Dettmers et al., QLoRA, arXiv:2305.14314): blocks of 64 weights, each the nearest of sixteen levels times the
 * block's largest magnitude. Codes are bit for bit those of bitsandbytes: scripts/parity/quant_goldens.py.
 */
import { decodeScales, encodeScales } from './dynamic8.js';

export const NF4_BLOCK = 64;

/** Quantiles of a normal distribution between -1 and 1, as bitsandbytes lists them. */
export const NF4_LEVELS = Float32Array.of(
  -1,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1,
);

const { fround } = Math;

/** Halfway between neighbouring levels; a value on the border takes the lower level. */
const BORDERS = Float32Array.from({ length: 15 }, (_, i) => fround(NF4_LEVELS[i] + NF4_LEVELS[i + 1]) / 2);

/** What division by a block of zeros uses instead of its magnitude. */
const TINY = fround(1e-38);

/**
 * Codes, two a byte with the first one high, and the magnitude of each block of 64 in the order of memory. The last
 * block may be shorter.
 */
export function quantizeNf4(values: Float32Array): { codes: Uint8Array; absmax: Float32Array } {
  const absmax = new Float32Array(Math.ceil(values.length / NF4_BLOCK));
  const codes = new Uint8Array(Math.ceil(values.length / 2));
  for (let block = 0, at = 0; at < values.length; block++, at += NF4_BLOCK) {
    const end = Math.min(at + NF4_BLOCK, values.length);
    let top = 0;
    for (let i = at; i < end; i++) top = Math.max(top, Math.abs(values[i]));
    absmax[block] = top;
    const whole = end - at === NF4_BLOCK;
    const divisor = Math.max(absmax[block], TINY);
    const factor = fround(1 / divisor);
    for (let i = at; i < end; i++) {
      // bitsandbytes multiplies whole blocks by the reciprocal and divides a shorter last one.
      const code = nearestLevel(whole ? fround(values[i] * factor) : fround(values[i] / divisor));
      codes[i >> 1] |= i & 1 ? code : code << 4;
    }
  }
  // The byte that an odd count leaves half empty holds the code of zero.
  if (values.length % 2 === 1) codes[codes.length - 1] |= nearestLevel(0);
  return { codes, absmax };
}

/** How many borders lie below x, by bisection. */
function nearestLevel(x: number): number {
  let code = x > BORDERS[7] ? 8 : 0;
  if (x > BORDERS[code + 3]) code += 4;
  if (x > BORDERS[code + 1]) code += 2;
  return x > BORDERS[code] ? code + 1 : code;
}

/** Values from codes and block magnitudes: level · absmax, rounded to float32. */
export function dequantizeNf4(codes: Uint8Array, absmax: Float32Array, target: Float32Array): void {
  for (let i = 0; i < target.length; i++) {
    const code = i & 1 ? codes[i >> 1] & 15 : codes[i >> 1] >>> 4;
    target[i] = NF4_LEVELS[code] * absmax[Math.floor(i / NF4_BLOCK)];
  }
}

/** The magnitudes as they are after double quantization: to 8 bits in blocks of 256 and back. */
export function doublyQuantized(absmax: Float32Array): Float32Array {
  return decodeScales(encodeScales(absmax));
}
