/** Classes of characters as the Rust library has them, as the inside of a character class in a regular expression. */
import * as tables from './characterTables.js';

/** `[…]`'s inside out of a table's ranges. */
function classOf(table: string): string {
  let at = 0;
  return table
    .split(',')
    .map((range) => {
      const [gap, more] = range.split(' ').map((digits) => Number.parseInt(digits, 36));
      const start = at + gap;
      at = start + more;
      return `\\u{${start.toString(16)}}-\\u{${at.toString(16)}}`;
    })
    .join('');
}

export const PUNCTUATION = classOf(tables.PUNCTUATION);
export const NUMERIC = classOf(tables.NUMERIC);
export const CONTROL = classOf(tables.CONTROL);
export const CHINESE = classOf(tables.CHINESE);
export const NONSPACING = classOf(tables.NONSPACING);
export const MARK = classOf(tables.MARK);
export const WORD = classOf(tables.WORD);
export const INERT = classOf(tables.INERT);
/** Neither U+FEFF, which JavaScript's \s has, nor without U+0085, which it lacks. */
export const SPACE = '\\p{White_Space}';
