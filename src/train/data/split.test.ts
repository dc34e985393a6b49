import { describe, expect, it } from 'vitest';
import { heldOutRows } from './split.js';

describe('heldOutRows', () => {
  const rows = Array.from({ length: 40 }, (_, i) => i);
  const held = (size: number, seed: number) => rows.filter(heldOutRows(rows.length, size, seed));

  it.each([
    [0.1, 4],
    [0.001, 1],
    [7, 7],
    [39, 39],
  ])('holds out %s of 40 as %i rows', (size, count) => {
    expect(held(size, 3)).toHaveLength(count);
  });

  it('chooses by the seed', () => {
    expect(held(8, 3)).toEqual(held(8, 3));
    expect(held(8, 4)).not.toEqual(held(8, 3));
    expect(held(8, 3)).not.toEqual(rows.slice(-8));
  });

  it('refuses to hold out everything', () => {
    expect(() => heldOutRows(40, 40, 0)).toThrow('evalSplit holds out 40 of 40 rows');
    expect(() => heldOutRows(1, 0.1, 0)).toThrow('evalSplit holds out 1 of 1 rows');
  });
});
