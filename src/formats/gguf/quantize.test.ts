import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { readSafetensorsHeader, readTensorBytes, readTensorF32, tensorNamed } from '../safetensors.js';
import { dequantize } from './dequant.js';
import { encodeGgml } from './quantize.js';
import { GGUF_DTYPES } from './types.js';

/** Values and the blocks that llama.cpp's gguf package makes of them (scripts/parity/gguf_quantize.py). */
const FIXTURE = fileURLToPath(new URL('./fixtures/quantize.safetensors', import.meta.url));

it.each(['q8_0', 'q4_0'] as const)('%s gives the bytes that the gguf package gives', async (dtype) => {
  const { tensors } = await readSafetensorsHeader(FIXTURE);
  const values = await readTensorF32(tensorNamed(tensors, 'values', FIXTURE));
  const blocks = await readTensorBytes(tensorNamed(tensors, GGUF_DTYPES[dtype].type, FIXTURE));
  expect(Buffer.from(encodeGgml(values, dtype)).equals(blocks)).toBe(true);
  expect(() => encodeGgml(values.subarray(1), dtype)).toThrow('no whole blocks');
});

it.each(['q8_0', 'q4_0'] as const)(
  '%s of what is too small is 0, and what is too large is refused',
  (dtype) => {
    const block = Float32Array.from({ length: 32 }, (_, i) => i * 1e-43);
    const values = new Float32Array(32).fill(1);
    dequantize(GGUF_DTYPES[dtype].type, encodeGgml(block, dtype), values);
    expect(values.every((x) => x === 0)).toBe(true);
    expect(() => encodeGgml(block.fill(1e7), dtype, 'x')).toThrow('x: 1 of its 1 blocks are too large');
  },
);
