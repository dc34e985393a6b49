import { describe, expect, it } from 'vitest';
import { UsageError } from './command.js';
import { bytesOf } from './convert.js';

describe('bytesOf', () => {
  it.each([
    ['2GB', 2e9],
    ['500mb', 5e8],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['10K', 1e4],
    ['123', 123],
  ])('%s', (text, bytes) => expect(bytesOf(text)).toBe(bytes));

  it.each(['', '0', '-1GB', '5TB', 'GB', '1e9', '0.1', '99999999999999999999'])('refuses %j', (text) => {
    expect(() => bytesOf(text)).toThrow(UsageError);
  });
});
