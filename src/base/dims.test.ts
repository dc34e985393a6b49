import { describe, expect, it } from 'vitest';
import { addDims, broadcast, divDims, mulDims, sameShape, termsOf } from './dims.js';

describe('symbolic sizes', () => {
  it('have one spelling a product', () => {
    expect(mulDims('seq', 3, 'batch')).toBe('3*batch*seq');
    expect(mulDims('batch', mulDims('seq', 3))).toBe('3*batch*seq');
    expect(mulDims(2, 3)).toBe(6);
    expect(mulDims('seq', 0)).toBe(0);
  });
  it('divide exactly or not at all', () => {
    expect(divDims('6*batch*seq', '2*seq')).toBe('3*batch');
    expect(divDims('batch*seq', 'batch*seq')).toBe(1);
    expect(() => divDims('batch', 'seq')).toThrow('not divisible');
    expect(() => divDims('3*seq', 2)).toThrow('not divisible');
  });
  it('add', () => {
    expect(addDims('past', 'seq')).toBe('(past+seq)');
    expect(addDims(0, 'seq')).toBe('seq');
    expect(mulDims(addDims('past', 'seq'), 2)).toBe('2*(past+seq)');
    expect(termsOf('(past+seq)')).toEqual(['past', 'seq']);
    expect(termsOf('((2*batch*seq+1)+past)')).toEqual(['(2*batch*seq+1)', 'past']);
    expect(termsOf('(batch*seq+1)')).toEqual(['batch*seq', 1]);
    expect(termsOf('seq')).toBeUndefined();
    const sum = addDims(mulDims('batch', 'seq'), 1);
    expect(mulDims(sum, 3)).toBe('3*(batch*seq+1)');
    expect(divDims(mulDims(addDims(sum, 'past'), 6), 2)).toBe('3*((batch*seq+1)+past)');
  });
  it('broadcast as NumPy', () => {
    expect(broadcast(['batch', 1, 4], ['seq', 1])).toEqual(['batch', 'seq', 4]);
    expect(() => broadcast(['batch'], ['seq'])).toThrow('do not broadcast');
    expect(sameShape(['a', 1], ['a', 1])).toBe(true);
  });
});
