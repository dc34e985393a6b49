/**
 * float32 to ggml's block formats, bit for bit what the gguf package of llama.cpp writes: every product is rounded to
 * float32 where its NumPy does. Arithmetic: quantize_row_*_ref in ggml-quants.c.
 */
import { UserError } from '../../base/errors.js';
import { countNonFiniteBytes } from '../../base/finite.js';
import { encodeF32, f32ToF16 } from '../float16.js';
import { GGML_TYPES, GGUF_DTYPES, type GgufDType } from './types.js';

const { fround } = Math;

/**
 * The bytes of `values` in a type; for blocks there have to be whole ones. Throws UserError where the scale of a block is
 * beyond float16; `what` names the tensor.
 */
export function encodeGgml(values: Float32Array, dtype: GgufDType, what = 'a tensor'): Uint8Array {
  if (dtype !== 'q8_0' && dtype !== 'q4_0') return encodeF32(values, dtype);
  const quantize = dtype === 'q8_0' ? q8_0 : q4_0;
  const { out, scales } = blocks(values, GGML_TYPES[GGUF_DTYPES[dtype].type], quantize);
  const large = countNonFiniteBytes(new Uint8Array(scales.buffer), 'float16');
  if (large > 0) {
    throw new UserError(
      `${what}: ${large} of its ${scales.length} blocks are too large for ${dtype}; choose bfloat16`,
    );
  }
  return out;
}

/** Fills `codes` from a block's values and returns its scale. */
type Quantize = (block: Float32Array, codes: Uint8Array) => number;

function blocks(
  values: Float32Array,
  { elements, bytes }: { elements: number; bytes: number },
  quantize: Quantize,
): { out: Uint8Array; scales: Uint16Array } {
  const count = values.length / elements;
  if (!Number.isInteger(count)) throw new Error(`${values.length} values are no whole blocks of ${elements}`);
  const out = new Uint8Array(count * bytes);
  const wide = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const block = values.subarray(i * elements, (i + 1) * elements);
    wide[i] = quantize(block, out.subarray(i * bytes + 2, (i + 1) * bytes));
  }
  const scales = new Uint16Array(count);
  f32ToF16(wide, scales);
  for (let i = 0; i < count; i++) {
    out[i * bytes] = scales[i] & 255;
    out[i * bytes + 1] = scales[i] >>> 8;
  }
  return { out, scales };
}

/** Of a scale that is too small for its inverse to be a number, all codes are 0: float16 has 0 for it. */
function inverseOf(d: number): number {
  const inverse = fround(1 / d);
  return Number.isFinite(inverse) ? inverse : 0;
}

/** d is the largest magnitude over 127; codes are rounded, halves away from zero. */
const q8_0: Quantize = (block, codes) => {
  let largest = 0;
  for (const x of block) largest = Math.max(largest, Math.abs(x));
  const d = fround(largest / 127);
  const inverse = inverseOf(d);
  for (let j = 0; j < block.length; j++) {
    const scaled = fround(block[j] * inverse);
    const magnitude = Math.abs(scaled);
    const floored = Math.floor(magnitude);
    const rounded = floored + Math.floor(fround(2 * fround(magnitude - floored)));
    codes[j] = scaled < 0 ? -rounded : rounded;
  }
  return d;
};

/** d is the value of the largest magnitude over -8, so that it is held exactly; low nibbles are the first half. */
const q4_0: Quantize = (block, codes) => {
  let extreme = 0;
  for (const x of block) if (Math.abs(x) > Math.abs(extreme)) extreme = x;
  const d = fround(extreme / -8);
  const inverse = inverseOf(d);
  const code = (x: number) => Math.min(15, Math.trunc(fround(fround(x * inverse) + 8.5)));
  const half = block.length / 2;
  for (let j = 0; j < half; j++) codes[j] = code(block[j]) | (code(block[half + j]) << 4);
  return d;
};
