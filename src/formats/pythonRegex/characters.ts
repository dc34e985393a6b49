/** Which characters Python's `re` counts as what, by code point. */

import type { Flags } from './flags.js';

export type CharTest = (code: number) => boolean;

const UNICODE = {
  d: matches(/^\p{Nd}$/u),
  w: matches(/^[\p{L}\p{N}_]$/u),
  // str.isspace: beside the separators of Unicode the control characters that separate.
  s: (code: number) =>
    (code >= 0x1c && code <= 0x1f) || code === 0x85 || /^[\t-\r\p{Z}]$/u.test(charOf(code)),
};
const ASCII = { d: matches(/^[0-9]$/), w: matches(/^[a-zA-Z0-9_]$/), s: matches(/^[ \t\n\r\f\v]$/) };

function matches(pattern: RegExp): CharTest {
  return (code) => pattern.test(charOf(code));
}

function charOf(code: number): string {
  return String.fromCodePoint(code);
}

/** \d, \w, \s, or with a capital their complements. */
export function category(letter: string, { ascii }: Flags): CharTest {
  const kind = letter.toLowerCase() as keyof typeof ASCII;
  const test = (ascii ? ASCII : UNICODE)[kind];
  return kind === letter ? test : (code) => !test(code);
}

/** Letters that Python takes for one when cases do not count, where lower and upper case do not tell. */
const FAMILIES = [
  [0x69, 0x49, 0x131, 0x130],
  [0x73, 0x53, 0x17f],
  [0x6b, 0x4b, 0x212a],
];

/** A character and those that it equals when cases do not count. */
export function sameLetter(code: number, { ascii }: Flags): readonly number[] {
  const family = !ascii && FAMILIES.find((letters) => letters.includes(code));
  if (family) return family;
  if (ascii && code > 0x7f) return [code];
  const text = charOf(code);
  const cases = [text.toLowerCase(), text.toUpperCase()].map((one) => [...one]);
  return [code, ...cases.flatMap((one) => (one.length === 1 ? one[0].codePointAt(0)! : []))];
}

/** `test`, of a character or of any that it equals under the flags. */
export function underCase(test: CharTest, flags: Flags): CharTest {
  return flags.ignoreCase ? (code) => sameLetter(code, flags).some(test) : test;
}
