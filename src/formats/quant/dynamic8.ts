/**
 * QLoRA's double quantization: NF4's scales, less their mean, in 8 bits by bitsandbytes' dynamic map
 * (Dettmers, arXiv:1511.04561), in blocks of 256.
 */
const BLOCK = 256;
const { fround } = Math;

/** Scales in 8 bits. */
export interface EncodedScales {
  codes: Uint8Array;
  /** Largest magnitude of each block of 256. */
  absmax: Float32Array;
  /** The scales' mean, taken off before. */
  offset: number;
}

/** The 256 values of the dynamic map, ascending: seven decades whose fractions gain a bit each, both signs, 0 and 1. */
export const DYNAMIC_MAP: Float32Array = dynamicMap();

function dynamicMap(): Float32Array {
  const values = [0, 1];
  for (let decade = 0; decade < 7; decade++) {
    const bounds = linspace(0.1, 1, 2 ** decade + 1);
    const factor = fround(10 ** (decade - 6));
    for (let i = 0; i + 1 < bounds.length; i++) {
      const mean = fround(factor * (fround(bounds[i] + bounds[i + 1]) / 2));
      values.push(mean, -mean);
    }
  }
  return Float32Array.from(values).sort();
}

/** As torch computes it in float32: from both ends to the middle, product and sum rounded once. */
function linspace(start: number, end: number, steps: number): Float32Array {
  const [first, last] = [fround(start), fround(end)];
  const step = fround(fround(last - first) / (steps - 1));
  return Float32Array.from({ length: steps }, (_, i) =>
    i < steps / 2 ? first + step * i : last - step * (steps - i - 1),
  );
}

/** What division by a block of zeros uses instead of its magnitude. */
const TINY = fround(1e-38);

/** Halfway between neighbouring values of the map. */
const BORDERS = Float32Array.from({ length: 255 }, (_, i) => fround(DYNAMIC_MAP[i] + DYNAMIC_MAP[i + 1]) / 2);

/** Scales in 8 bits, each the map's nearest value. */
export function encodeScales(scales: Float32Array): EncodedScales {
  const offset = fround(scales.reduce((sum, s) => sum + s, 0) / scales.length);
  const absmax = new Float32Array(Math.ceil(scales.length / BLOCK));
  const codes = new Uint8Array(scales.length);
  const rest = scales.map((s) => s - offset);
  for (let block = 0; block < absmax.length; block++) {
    const part = rest.subarray(block * BLOCK, (block + 1) * BLOCK);
    const top = part.reduce((most, s) => Math.max(most, Math.abs(s)), 0);
    absmax[block] = top;
    const divisor = Math.max(top, TINY);
    const factor = fround(1 / divisor);
    part.forEach((s, i) => {
      // As for NF4: whole blocks are multiplied by the reciprocal, a shorter last one is divided.
      const x = part.length === BLOCK ? fround(s * factor) : fround(s / divisor);
      codes[block * BLOCK + i] = nearest(x);
    });
  }
  return { codes, absmax, offset };
}

/** How many borders lie below x, by bisection. */
function nearest(x: number): number {
  let code = 0;
  for (let step = 128; step > 0; step >>= 1) if (x > BORDERS[code + step - 1]) code += step;
  return code;
}

/** Scales back from their 8 bits. */
export function decodeScales({ codes, absmax, offset }: EncodedScales): Float32Array {
  return Float32Array.from(
    codes,
    (code, i) => fround(DYNAMIC_MAP[code] * absmax[Math.floor(i / BLOCK)]) + offset,
  );
}
