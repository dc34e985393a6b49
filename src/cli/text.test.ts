import { describe, expect, it } from 'vitest';
import { bytes, counted, duration, elapsed, percent, short, table, tableOrList, wrapped } from './text.js';

describe('numbers for people', () => {
  it.each([
    [0.4, 'under 1 s'],
    [59.4, '59 s'],
    [59.6, '1:00'],
    [3723, '1:02:03'],
    [-1, 'under 1 s'],
  ])('%d seconds', (seconds, text) => expect(duration(seconds)).toBe(text));

  it.each([
    [0.004, '0.1 s'],
    [0.44, '0.4 s'],
    [9.96, '10 s'],
    [61, '1:01'],
  ])('%d seconds that something took', (seconds, text) => expect(elapsed(seconds)).toBe(text));

  it('sizes, counts and shares', () => {
    expect([bytes(999), bytes(1000), bytes(1.85e6), bytes(2e13)]).toEqual([
      '999 bytes',
      '1.0 KB',
      '1.9 MB',
      '20.0 TB',
    ]);
    expect([counted(1, 'row'), counted(1200, 'row')]).toEqual(['1 row', '1,200 rows']);
    expect([short(134_515_008), percent(0.00343)]).toEqual(['134.5M', '0.343%']);
  });

  it('a table, or in a narrow place a list of its rows', () => {
    const rows = [
      ['run', 'status', 'steps'],
      ['fast', 'unfinished, for want of time', 1000],
      ['slow', '', 2],
    ];
    expect(tableOrList(rows, 50)).toEqual(table(rows));
    expect(tableOrList(rows, 26)).toEqual([
      'fast',
      '  status  unfinished, for',
      '          want of time',
      '  steps   1,000',
      'slow',
      '  steps   2',
    ]);
  });

  it('lines broken at blanks', () => {
    expect(wrapped('one two three\nfour', 8, '  ')).toEqual(['one two', '  three', 'four']);
    expect(wrapped('unbreakable', 4)).toEqual(['unbreakable']);
  });

  it('tables, numbers on the right', () => {
    expect(
      table([
        ['a', 1],
        ['bcd', 1000],
      ]),
    ).toEqual(['a        1', 'bcd  1,000']);
  });
});
