import { describe, expect, it } from 'vitest';
import { splitRows } from './split.js';

describe('splitRows', () => {
  const rows = Array.from({ length: 40 }, (_, i) => i);

  it.each([
    [0.1, 4],
    [0.001, 1],
    [7, 7],
    [39, 39],
  ])('holds out %s of 40 as %i rows, each in one part', (size, count) => {
    const { train, heldOut } = splitRows(rows, size, 3);
    expect(heldOut).toHaveLength(count);
    expect([...train, ...heldOut].sort((a, b) => a - b)).toEqual(rows);
  });

  it('chooses by the seed, and keeps the order', () => {
    const one = splitRows(rows, 8, 3);
    expect(splitRows(rows, 8, 3)).toEqual(one);
    expect(splitRows(rows, 8, 4).heldOut).not.toEqual(one.heldOut);
    expect(one.heldOut).toEqual([...one.heldOut].sort((a, b) => a - b));
    expect(one.heldOut).not.toEqual(rows.slice(-8));
  });

  it('refuses to hold out everything', () => {
    expect(() => splitRows(rows, 40, 0)).toThrow('evalSplit holds out 40 of 40 rows');
    expect(() => splitRows([1], 0.1, 0)).toThrow('evalSplit holds out 1 of 1 rows');
  });
});
