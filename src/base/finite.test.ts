import { describe, expect, it } from 'vitest';
import { countNonFinite, countNonFiniteBytes, refuseNonFinite } from './finite.js';

describe('values that are not finite', () => {
  it('are counted, whatever their sign and payload', () => {
    const bits = Uint32Array.of(0x7f800000, 0xff800000, 0x7fc00000, 0xff800001, 0x7f7fffff, 0x80000000, 1, 0);
    expect(countNonFinite(new Float32Array(bits.buffer))).toBe(4);
    expect(countNonFinite(new Float32Array(bits.buffer, 16))).toBe(0);
  });
  it('are refused by tensor and count', () => {
    expect(() => refuseNonFinite('a.safetensors', 'x', Float32Array.of(1, Number.NaN))).toThrow(
      'a.safetensors: tensor "x": 1 of its 2 values is NaN or infinite',
    );
    expect(() => refuseNonFinite('a.safetensors', 'x', Float32Array.of(1, -3e38))).not.toThrow();
  });
});

describe('values as they lie in a file', () => {
  it.each([
    ['float32', [0x7f800000, 0x7f7fffff], Uint32Array],
    ['bfloat16', [0xff80, 0x7f7f], Uint16Array],
    ['float16', [0x7e00, 0x7bff], Uint16Array],
  ] as const)('%s', (dtype, bits, Bits) => {
    expect(countNonFiniteBytes(new Uint8Array(Bits.from(bits).buffer), dtype)).toBe(1);
  });
  it('float64, at an odd address', () => {
    const bytes = new Uint8Array(17);
    new DataView(bytes.buffer).setFloat64(1, Number.NaN, true);
    new DataView(bytes.buffer).setFloat64(9, 1e308, true);
    expect(countNonFiniteBytes(bytes.subarray(1), 'float64')).toBe(1);
  });
});
