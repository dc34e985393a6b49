import { describe, expect, it } from 'vitest';
import { placeOf } from './module.js';
import { type Judged, verdictOf } from './verdict.js';

function layer(name: string, values: readonly number[], of99: number, more: Partial<Judged> = {}): Judged {
  const norm = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
  return {
    ...placeOf(name),
    change: { kind: 'product', rank: values.length, values: [...values], of99, norm },
    ...more,
  };
}
const kinds = (modules: readonly Judged[]) => verdictOf(modules).map(({ kind }) => kind);
const steep = [10, 1, 0.1, 0.05, 0.01, 0.01, 0.01, 0.01];
const flat = [4, 3.6, 3.1, 2.8, 2.4, 2, 1.7, 1.5];
const falling = [8, 4, 2.4, 1.8, 1.5, 1.2, 1, 0.8];

describe('the rank', () => {
  it('is too large where half of the directions hold 99%', () => {
    const [finding] = verdictOf([layer('a', steep, 1), layer('a', steep, 2), layer('a', falling, 7)]);
    expect(finding).toEqual({
      kind: 'rankTooLarge',
      message:
        "the rank is larger than what was learned: of 8 directions, 2 hold 99% of the median module's change; " +
        'a rank of 2 would do (lowrank resize --r 2)',
    });
    expect(kinds([layer('a', falling, 4)])).toEqual(['rankTooLarge']);
    expect(kinds([layer('a', falling, 5)])).toEqual([]);
  });

  it('may be too small where the spectrum has not fallen at its end', () => {
    const [finding] = verdictOf([layer('a', flat, 8), layer('a', falling, 7), layer('a', flat, 8)]);
    expect(finding.kind).toBe('rankTooSmall');
    expect(finding.message).toContain('the last of 8 directions is still 38% of the first');
    expect(kinds([layer('a', [4, 1.01], 2)])).toEqual(['rankTooSmall']);
    expect(kinds([layer('a', [4, 0.99], 2)])).toEqual([]);
  });

  it('is not judged of one direction, of a change that fills its matrix, and of layers that are zero', () => {
    expect(kinds([layer('a', [3], 1)])).toEqual([]);
    const dense = layer('a', steep, 1);
    expect(kinds([{ ...dense, change: { ...dense.change, kind: 'dense' } }])).toEqual([]);
    expect(kinds([layer('a', falling, 7), layer('a', [0, 0], 0), layer('a', [0, 0], 0)])).toEqual([]);
  });

  it('of nothing learned is one sentence', () => {
    expect(kinds([layer('a', [0, 0], 0), layer('b', [0, 0], 0)])).toEqual(['zero']);
  });
});

describe('two adapters', () => {
  const beside = (first: number, all: number): Judged => {
    const side = {
      phi: [
        [first, first],
        [first, all],
      ],
      distance: 1,
      most: 2,
    };
    return layer('a', falling, 7, { in: 100, out: 100, similarity: { with: 'other', a: side, b: side } });
  };
  it('share a direction, share nothing, or something between', () => {
    expect(kinds([beside(0.6, 0.1)])).toEqual(['sharedDirections']);
    // Of two random planes in 100 dimensions φ is 0.02.
    expect(kinds([beside(0.01, 0.039)])).toEqual(['noSharedDirections']);
    expect(kinds([beside(0.3, 0.1)])).toEqual([]);
  });
  it('are not judged by what random matrices share', () => {
    const one = beside(0.9, 0.9);
    expect(kinds([{ ...one, similarity: { ...one.similarity!, with: 'random' } }])).toEqual([]);
  });
});

it('intruder dimensions are counted over all modules', () => {
  const rule = { k: 10, epsilon: 0.5, against: null };
  const [finding] = verdictOf([
    layer('a', falling, 7, { intruders: { ...rule, count: 2 } }),
    layer('a', falling, 7, { intruders: { ...rule, count: 0 } }),
    layer('a', falling, 7, { intruders: { ...rule, count: 1 } }),
  ]);
  expect(finding.kind).toBe('intruders');
  expect(finding.message).toContain('3 of the leading directions, in 2 of 3 modules, are intruders');
});

describe('where the weight sits', () => {
  const at = (n: number, role: string, size: number) =>
    layer(
      `model.layers.${n}.mlp.${role}`,
      falling.map((x) => x * size),
      7,
    );
  it('names the fewest roles and, where they are few, layers that hold half', () => {
    const modules = Array.from({ length: 6 }, (_, n) => [
      at(n, 'up', n === 4 ? 10 : 1),
      at(n, 'down', 1),
    ]).flat();
    expect(verdictOf(modules)).toEqual([
      { kind: 'concentrated', message: '95% of the change is in up' },
      { kind: 'concentrated', message: '91% of the change is in layer 4' },
    ]);
  });
  it('says nothing of layers where it is spread, nor of roles where there is one', () => {
    expect(kinds(Array.from({ length: 6 }, (_, n) => at(n, 'up', 1)))).toEqual([]);
  });
});
