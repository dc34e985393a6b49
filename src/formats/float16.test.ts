import { describe, expect, it } from 'vitest';
import { bf16ToF32, encodeF32, f16ToF32, f32ToBf16, f32ToF16 } from './float16.js';

const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
const bits = (values: Float32Array) => new Uint32Array(values.buffer);

/** vitest compares long arrays slowly. */
const firstDifference = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  a.length === b.length ? Array.prototype.findIndex.call(a, (x, i) => x !== b[i]) : 0;

/** IEEE 754 by its definition, for a format with `e` exponent and `m` mantissa bits. */
function byDefinition(pattern: number, e: number, m: number): number {
  const sign = pattern >>> (e + m) === 1 ? -1 : 1;
  const exponent = (pattern >>> m) & (2 ** e - 1);
  const mantissa = pattern & (2 ** m - 1);
  const bias = 2 ** (e - 1) - 1;
  if (exponent === 2 ** e - 1) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - m);
  return sign * (1 + mantissa / 2 ** m) * 2 ** (exponent - bias);
}

describe.each([
  { name: 'float16', e: 5, m: 10, decode: f16ToF32, encode: f32ToF16 },
  { name: 'bfloat16', e: 8, m: 7, decode: bf16ToF32, encode: f32ToBf16 },
])('$name, over all 65,536 patterns', ({ e, m, decode, encode }) => {
  const values = new Float32Array(65536);
  decode(all, values);
  const round = (x: Float32Array) => {
    const out = new Uint16Array(x.length);
    encode(x, out);
    return out;
  };

  it('decodes by the definition', () => {
    const wrong = [...all].filter((p) => !Object.is(values[p], Math.fround(byDefinition(p, e, m))));
    expect(wrong).toEqual([]);
  });

  it('encodes every value to itself and NaN to NaN of the same sign', () => {
    const back = round(values);
    const infinity = (2 ** e - 1) << m;
    const wrong = [...all].filter((p) => {
      const nan = (p & 0x7fff) > infinity;
      return nan ? (back[p] & 0x7fff) <= infinity || (back[p] ^ p) >= 0x8000 : back[p] !== p;
    });
    expect(wrong).toEqual([]);
  });

  it('rounds what lies between two neighbours to the nearest, ties to even', () => {
    // Neighbours in magnitude, up to the step from the largest finite value to infinity (by its binade's width).
    const count = (2 ** e - 1) << m;
    const probes = new Float32Array(count * 3);
    const expected = new Uint16Array(count * 3);
    for (let p = 0; p < count; p++) {
      const low = byDefinition(p, e, m);
      const step = p + 1 < count ? byDefinition(p + 1, e, m) - low : low - byDefinition(p - 1, e, m);
      const middle = Math.fround(low + step / 2);
      probes[3 * p + 1] = middle;
      bits(probes)[3 * p] = bits(Float32Array.of(middle))[0] - 1;
      bits(probes)[3 * p + 2] = bits(Float32Array.of(middle))[0] + 1;
      expected.set([p, p + (p & 1), p + 1], 3 * p);
    }
    const positive = round(probes);
    expect(firstDifference(positive, expected)).toBe(-1);
    const negative = round(probes.map((x) => -x));
    expect(
      firstDifference(
        negative,
        expected.map((p) => p | 0x8000),
      ),
    ).toBe(-1);
  });

  it('decodes in place from the upper half of the target', () => {
    const memory = new Float32Array(65536);
    const source = new Uint16Array(memory.buffer, 65536 * 2);
    source.set(all);
    decode(source, memory);
    expect(firstDifference(bits(memory), bits(values))).toBe(-1);
  });
});

it('encodeF32 gives little-endian bytes', () => {
  const x = Float32Array.of(1, -2).subarray(1);
  expect([...encodeF32(x, 'float32')]).toEqual([0, 0, 0, 0xc0]);
  expect([...encodeF32(x, 'float16')]).toEqual([0, 0xc0]);
  expect([...encodeF32(x, 'bfloat16')]).toEqual([0, 0xc0]);
});
