import { describe, expect, it } from 'vitest';
import { countNonFinite, refuseNonFinite } from './finite.js';

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
