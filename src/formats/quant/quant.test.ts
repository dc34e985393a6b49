import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Rng } from '../../base/rng.js';
import { dequantize } from '../gguf/dequant.js';
import { type MatrixShape, pack, packedBytes, quantCodecs, quantFormats, unpack } from './index.js';

const shapes = fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 100 }));
/**
 * Error that a value may have, as a share of its block's largest magnitude: half the widest step, of int4 a whole one at
 * the far end of its levels (-8 to 7), of nf4 also what 8 bits do to the scale.
 */
const WORST = { nf4: 0.18, int8: 0.51 / 127, int4: 0.126 };

function normals([rows, columns]: MatrixShape, seed: number): Float32Array {
  const rng = new Rng(seed, 'quant');
  return Float32Array.from({ length: rows * columns }, () => rng.normal());
}

describe.each(quantFormats)('%s', (format) => {
  const codec = quantCodecs[format];

  it('every value comes back within a step of its block', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 0, max: 1e6 }), (shape, seed) => {
        const values = normals(shape, seed);
        const back = codec.dequantize(codec.quantize(values, shape), shape);
        const top = values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
        for (const [i, v] of values.entries()) {
          expect(Math.abs(back[i] - v)).toBeLessThanOrEqual(top * WORST[format]);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('packed and unpacked it is the same, in as many bytes as are said', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const quantized = codec.quantize(normals(shape, 1), shape);
        const bytes = pack(format, quantized, shape);
        expect(bytes.length).toBe(packedBytes(format, shape));
        expect(unpack(format, bytes, shape)).toEqual(quantized);
      }),
      { numRuns: 20 },
    );
  });

  it('zeros stay zeros', () => {
    const shape = [2, 40] as const;
    const zeros = new Float32Array(80);
    expect(codec.dequantize(codec.quantize(zeros, shape), shape).map(Math.abs)).toEqual(zeros);
  });
});

describe.each(['int8', 'int4'] as const)('%s', (format) => {
  const codec = quantCodecs[format];

  it('takes the blocks of llama.cpp as they are', () => {
    const { type, convert } = codec.gguf!;
    const rng = new Rng(3, type);
    const blockBytes = type === 'Q4_0' ? 18 : 34;
    const bytes = Uint8Array.from({ length: 6 * blockBytes }, () => rng.below(256));
    // Scales between 1 and 2.
    for (let at = 1; at < bytes.length; at += blockBytes) bytes[at] = 0x3c;
    const expected = new Float32Array(6 * 32);
    dequantize(type, bytes, expected);
    expect(codec.dequantize(convert(bytes), [2, 96])).toEqual(expected);
  });

  it('quantizing what is quantized already changes nothing', () => {
    const shape = [3, 64] as const;
    const once = codec.dequantize(codec.quantize(normals(shape, 5), shape), shape);
    const twice = codec.dequantize(codec.quantize(once, shape), shape);
    twice.forEach((v, i) => {
      expect(Math.abs(v - once[i])).toBeLessThanOrEqual(1e-6);
    });
  });
});
