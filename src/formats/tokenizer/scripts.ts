/** Where a text passes from one script to another (UnicodeScripts). */
import { SCRIPTS } from './characterTables.js';

/** First and last character and the script of each range. */
const RANGES: readonly (readonly [number, number, number])[] = (() => {
  let at = 0;
  return SCRIPTS.split(',').map((range) => {
    const [gap, more, script] = range.split(' ').map((digits) => Number.parseInt(digits, 36));
    const start = at + gap;
    at = start + more;
    return [start, at, script] as const;
  });
})();

/** The number of a character's script; undefined for those of any script. */
function scriptOf(point: number): number | undefined {
  let [low, high] = [0, RANGES.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (RANGES[middle][1] < point) low = middle + 1;
    else high = middle;
  }
  return low < RANGES.length && RANGES[low][0] <= point ? RANGES[low][2] : undefined;
}

/** Where runs of one script begin. What stands before the first character that has a script is in none of them. */
export function scriptStarts(text: string): number[] {
  const starts: number[] = [];
  let last: number | undefined;
  let at = 0;
  for (const character of text) {
    const script = scriptOf(character.codePointAt(0)!);
    if (script !== undefined && script !== last) {
      starts.push(at);
      last = script;
    }
    at += character.length;
  }
  return starts;
}
