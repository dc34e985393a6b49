/** llama.cpp's blocks in the layout of MatMulNBits, without rounding: only scales widen to float32. */
import { halfValues } from '../float16.js';
import { GGML_TYPES } from '../gguf/types.js';
import { INT_BLOCK } from './blocks.js';

/** Rewrites the codes of one block, from byte `from` of the source to byte `to` of the target. */
type Rewrite = (source: Uint8Array, from: number, target: Uint8Array, to: number) => void;

/** Q4_0 has elements 0-15 in the low nibbles and 16-31 in the high ones; here neighbours share a byte. */
const interleave: Rewrite = (source, from, target, to) => {
  for (let j = 0; j < 8; j++) {
    const [a, b] = [source[from + 2 * j], source[from + 2 * j + 1]];
    target[to + j] = (a & 15) | ((b & 15) << 4);
    target[to + 8 + j] = (a >>> 4) | (b & 0xf0);
  }
};

/** Q8_0 has signed bytes; here 128 is zero. */
const unsign: Rewrite = (source, from, target, to) => {
  for (let j = 0; j < INT_BLOCK; j++) target[to + j] = source[from + j] ^ 0x80;
};

function blocks(type: 'Q4_0' | 'Q8_0', rewrite: Rewrite) {
  const { bytes } = GGML_TYPES[type];
  return {
    /** The type whose blocks `convert` takes. */
    type,
    /** Codes and scales of whole rows of blocks. */
    convert(source: Uint8Array): { codes: Uint8Array; scales: Float32Array } {
      const half = halfValues();
      const scales = new Float32Array(source.length / bytes);
      const codes = new Uint8Array(scales.length * (bytes - 2));
      for (let block = 0, at = 0; block < scales.length; block++, at += bytes) {
        scales[block] = half[source[at] | (source[at + 1] << 8)];
        rewrite(source, at + 2, codes, block * (bytes - 2));
      }
      return { codes, scales };
    },
  };
}

export const q4_0 = blocks('Q4_0', interleave);
export const q8_0 = blocks('Q8_0', unsign);
