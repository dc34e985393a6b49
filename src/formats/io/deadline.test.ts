import { describe, expect, it } from 'vitest';
import { OutOfTime } from '../../base/deadline.js';
import { withDeadline } from './deadline.js';

describe('withDeadline', () => {
  it('gives what the work gives, and throws what it throws', () => {
    expect(withDeadline(1000, () => [1, 2])).toEqual([1, 2]);
    expect(() =>
      withDeadline(1000, () => {
        throw new RangeError('its own');
      }),
    ).toThrow(new RangeError('its own'));
  });

  it.each<[string, () => unknown]>([
    ['a pattern that backtracks for ever', () => /^(?:a+)+$/u.test(`${'a'.repeat(60)}b`)],
    [
      'a loop that has no end',
      () => {
        for (let i = 0; ; i = (i + 1) % 7);
      },
    ],
    [
      'work that would catch everything',
      () => {
        try {
          return /^(?:a+)+$/u.test(`${'a'.repeat(60)}b`);
        } catch {
          return 'caught';
        }
      },
    ],
  ])('ends %s', (_, work) => {
    expect(() => withDeadline(50, work)).toThrow(OutOfTime);
  });

  it('nests, each with its own time', () => {
    const slow = () => /^(?:a+)+$/u.test(`${'a'.repeat(60)}b`);
    expect(
      withDeadline(10_000, () => {
        expect(() => withDeadline(20, slow)).toThrow(OutOfTime);
        return withDeadline(20, () => 'inner');
      }),
    ).toBe('inner');
    expect(() => withDeadline(50, () => withDeadline(10_000, slow))).toThrow(OutOfTime);
  });
});
