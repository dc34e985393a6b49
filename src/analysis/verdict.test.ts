import { describe, expect, it } from 'vitest';
import { placeOf } from './module.js';
import { type Judged, verdictOf } from './verdict.js';

function layer(name: string, values: readonly number[], more: Partial<Judged> = {}): Judged {
  const norm = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
  return {
    ...placeOf(name),
    change: { kind: 'product', rank: values.length, values: [...values], norm },
    ...more,
  };
}
const kinds = (modules: readonly Judged[]) => verdictOf(modules).map(({ kind }) => kind);
const steep = [10, 1, 0.1, 0.05, 0.01, 0.01, 0.01, 0.01];
const flat = [4, 3.6, 3.1, 2.8, 2.4, 2, 1.7, 1.5];
const falling = [8, 4, 2.4, 1.8, 1.5, 1.2, 1, 0.8];

describe('the rank', () => {
  it('is to spare where half of the directions hold 99.9%', () => {
    const [finding] = verdictOf([layer('a', steep), layer('a', steep), layer('a', falling)]);
    expect(finding).toEqual({
      kind: 'rankToSpare',
      message:
        "the adapter can be smaller: of 8 directions, 2 hold 99.9% of the median module's change " +
        '(lowrank resize --r 8 --energy 0.999); that training with a smaller r comes as far does not follow',
    });
    const tail = (x: number) => [10, 5, 3, 2, x, x, x, x];
    expect(kinds([layer('a', tail(0.18))])).toEqual(['rankToSpare']);
    expect(kinds([layer('a', tail(0.19))])).toEqual([]);
  });

  it('is too small where the spectrum has not fallen at its end', () => {
    const [finding] = verdictOf([layer('a', flat), layer('a', falling), layer('a', flat)]);
    expect(finding.kind).toBe('rankTooSmall');
    expect(finding.message).toContain('the last of 8 directions is still 38% of the first');
    expect(kinds([layer('a', [5, 1.01])])).toEqual(['rankTooSmall']);
    expect(kinds([layer('a', [5, 0.99])])).toEqual([]);
  });

  it('is not judged of one direction, of a change that fills its matrix, and of layers that are zero', () => {
    expect(kinds([layer('a', [3])])).toEqual([]);
    const dense = layer('a', steep);
    expect(kinds([{ ...dense, change: { ...dense.change, kind: 'dense' } }])).toEqual([]);
    expect(kinds([layer('a', falling), layer('a', [0, 0]), layer('a', [0, 0])])).toEqual([]);
  });

  it('of nothing learned is one sentence', () => {
    expect(kinds([layer('a', [0, 0]), layer('b', [0, 0])])).toEqual(['zero']);
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
    return layer('a', falling, { in: 100, out: 100, similarity: { with: 'other', a: side, b: side } });
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
    layer('a', falling, { intruders: { ...rule, count: 2 } }),
    layer('a', falling, { intruders: { ...rule, count: 0 } }),
    layer('a', falling, { intruders: { ...rule, count: 1 } }),
  ]);
  expect(finding.kind).toBe('intruders');
  expect(finding.message).toContain('3 of the leading directions, in 2 of 3 modules, are intruders');
});

describe('where the weight sits', () => {
  const at = (n: number, role: string, size: number) =>
    layer(
      `model.layers.${n}.mlp.${role}`,
      falling.map((x) => x * size),
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
