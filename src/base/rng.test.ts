import { describe, expect, it } from 'vitest';
import { philox4x32, Rng } from './rng.js';

describe('philox4x32', () => {
  // Known answers of Random123 1.14 (kat_vectors, philox4x32 10 rounds).
  it.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as const)('matches Random123 for counter %j', (counter, key, expected) => {
    expect(philox4x32(counter, key)).toEqual([...expected]);
  });
});

describe('Rng', () => {
  it('repeats by seed and stream, and differs between them', () => {
    const draw = (seed: number, stream: string | number) => {
      const rng = new Rng(seed, stream);
      return Array.from({ length: 8 }, () => rng.uint32());
    };
    expect(draw(1, 'a')).toEqual(draw(1, 'a'));
    expect(draw(1, 'a')).not.toEqual(draw(1, 'b'));
    expect(draw(1, 'a')).not.toEqual(draw(2, 'a'));
  });

  it('has the moments it claims', () => {
    const rng = new Rng(7, 'moments');
    const n = 20_000;
    let mean = 0;
    let square = 0;
    let uniform = 0;
    for (let i = 0; i < n; i++) {
      const z = rng.normal();
      mean += z / n;
      square += (z * z) / n;
      uniform += rng.uniform() / n;
    }
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(Math.abs(square - 1)).toBeLessThan(0.05);
    expect(Math.abs(uniform - 0.5)).toBeLessThan(0.01);
  });

  it('permutes', () => {
    const order = new Rng(3).permutation(100);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });
});
