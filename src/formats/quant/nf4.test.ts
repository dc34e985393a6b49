import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { readSafetensorsHeader, readTensorBytes, readTensorF32 } from '../safetensors.js';
import { DYNAMIC_MAP, encodeScales } from './dynamic8.js';
import { dequantizeNf4, doublyQuantized, NF4_LEVELS, quantizeNf4 } from './nf4.js';

// What bitsandbytes makes of the same weights: scripts/parity/quant_goldens.py.
const golden = fileURLToPath(new URL('fixtures/nf4.safetensors', import.meta.url));
const floats = new Map<string, Float32Array>();
const bytes = new Map<string, Uint8Array>();
beforeAll(async () => {
  for (const [name, info] of (await readSafetensorsHeader(golden)).tensors) {
    if (info.dtype === 'F32') floats.set(name, await readTensorF32(info));
    else bytes.set(name, await readTensorBytes(info));
  }
});

describe('NF4 against bitsandbytes', () => {
  it('codes and scales are equal bit for bit', () => {
    const { codes, absmax } = quantizeNf4(floats.get('weights')!);
    expect(codes).toEqual(bytes.get('codes'));
    expect(absmax).toEqual(floats.get('absmax'));
  });

  it('the dynamic map is equal bit for bit', () => expect(DYNAMIC_MAP).toEqual(floats.get('dynamic_map')));

  it('the scales in 8 bits are equal bit for bit, their mean within its rounding', () => {
    const { codes, absmax, offset } = encodeScales(floats.get('absmax')!);
    const [expected] = floats.get('offset')!;
    expect(Math.abs(offset / expected - 1)).toBeLessThan(2e-7);
    expect(codes).toEqual(bytes.get('absmax_codes'));
    absmax.forEach((a, i) => {
      expect(Math.abs(a / floats.get('nested_absmax')![i] - 1)).toBeLessThan(2e-7);
    });
  });

  it('dequantized values are equal within the rounding of the mean', () => {
    const scales = doublyQuantized(floats.get('absmax')!);
    const expected = floats.get('dequantized')!;
    const got = new Float32Array(expected.length);
    dequantizeNf4(bytes.get('codes')!, scales, got);
    const top = floats.get('offset')![0];
    got.forEach((v, i) => {
      expect(Math.abs(v - expected[i])).toBeLessThan(2e-7 * (top + Math.abs(expected[i])));
    });
  });
});

describe('NF4', () => {
  it('keeps the levels themselves', () => {
    const { codes, absmax } = quantizeNf4(NF4_LEVELS);
    const back = new Float32Array(16);
    dequantizeNf4(codes, absmax, back);
    expect(back).toEqual(NF4_LEVELS);
  });

  it('takes a last block that is short and an odd number of values', () => {
    const values = Float32Array.from({ length: 67 }, (_, i) => (i < 64 ? 1 : -0.5));
    const { codes, absmax } = quantizeNf4(values);
    expect([codes.length, ...absmax]).toEqual([34, 1, 0.5]);
    const back = new Float32Array(67);
    dequantizeNf4(codes, absmax, back);
    expect(back).toEqual(values);
  });
});
