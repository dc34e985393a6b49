import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readSafetensorsHeader, readTensorBytes, readTensorF32, tensorNamed } from '../safetensors.js';
import { dequantize } from './dequant.js';
import { GGML_TYPE_NAMES } from './types.js';

/** Random blocks and what llama.cpp's gguf package makes of them (scripts/parity/gguf_goldens.py). */
const FIXTURE = fileURLToPath(new URL('./fixtures/dequant.safetensors', import.meta.url));

describe('dequantize', () => {
  it.each(GGML_TYPE_NAMES)('%s gives the bits that the gguf package gives', async (type) => {
    const { tensors } = await readSafetensorsHeader(FIXTURE);
    const blocks = await readTensorBytes(tensorNamed(tensors, `${type}.blocks`, FIXTURE));
    const expected = await readTensorF32(tensorNamed(tensors, `${type}.values`, FIXTURE));
    const values = new Float32Array(expected.length);
    dequantize(type, blocks, values);
    expect(new Set(values).size).toBeGreaterThan(16);
    expect(new Uint32Array(values.buffer)).toEqual(new Uint32Array(expected.buffer));

    const odd = new Uint8Array(blocks.length + 1).subarray(1);
    odd.set(blocks);
    values.fill(0);
    dequantize(type, odd, values);
    expect(values).toEqual(expected);
  });

  it('refuses a target of another size', () => {
    expect(() => dequantize('Q4_0', new Uint8Array(18), new Float32Array(31))).toThrow(/do not fill/);
  });
});
