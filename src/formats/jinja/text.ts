/** Text as Python's str has it, where JavaScript's differs. */
import { UserError } from '../../base/errors.js';

/** Python's `\s`, as the inside of a class of characters. */
export const BLANKS =
  '\\t-\\r \\x1c-\\x1f\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

const WORD_BREAK = new RegExp(`([-({[<${BLANKS}]+)`);

/** What Python takes for white space: not U+FEFF as in JavaScript, but U+001C to U+001F and U+0085. */
export function isBlank(character: string): boolean {
  const code = character.charCodeAt(0);
  if (code < 128) return code === 32 || (code >= 9 && code <= 13) || (code >= 0x1c && code <= 0x1f);
  return code === 0x85 || (code !== 0xfeff && /\s/.test(character));
}

/** str.strip(): takes white space away, or the `characters` given. */
export function strip(text: string, characters: string | undefined, left: boolean, right: boolean): string {
  if (characters !== undefined && /[\ud800-\udfff]/.test(text + characters)) {
    const set = new Set(characters);
    const points = [...text];
    let [start, end] = [0, points.length];
    while (left && start < end && set.has(points[start])) start++;
    while (right && end > start && set.has(points[end - 1])) end--;
    return points.slice(start, end).join('');
  }
  // No blank lies beyond U+FFFF, so units do for code points.
  const strips = characters === undefined ? isBlank : (c: string) => characters.includes(c);
  let [start, end] = [0, text.length];
  while (left && start < end && strips(text[start])) start++;
  while (right && end > start && strips(text[end - 1])) end--;
  return text.slice(start, end);
}

/** str.split() without a separator. */
export function words(text: string, most = -1): string[] {
  const found: string[] = [];
  let at = 0;
  for (;;) {
    while (at < text.length && isBlank(text[at])) at++;
    if (at === text.length) return found;
    if (found.length === most) return [...found, text.slice(at)];
    const start = at;
    while (at < text.length && !isBlank(text[at])) at++;
    found.push(text.slice(start, at));
  }
}

const LINE_END = '\n\r\v\f\x1c-\x1e\x85\u2028\u2029';
const LINE = new RegExp(`[^${LINE_END}]*(?:\r\n|[${LINE_END}]|$)`, 'g');
const END_OF_LINE = new RegExp(`(?:\r\n|[${LINE_END}])$`);

/** str.splitlines(). */
export function lines(text: string, keepEnds = false): string[] {
  const found = text.match(LINE) ?? [];
  if (found.at(-1) === '') found.pop();
  return keepEnds ? found : found.map((line) => line.replace(END_OF_LINE, ''));
}

/** A letter as a word begins with it, and the rest of what it stands for: "ß" is "Ss". */
function titleCase(letter: string): string {
  if (/[\u10d0-\u10ff]/.test(letter)) return letter;
  if (
    /[\u01c4-\u01cc\u01f1-\u01f3]|[\u1f80-\u1ffc]/.test(letter) &&
    letter.toUpperCase() !== letter.toLowerCase()
  ) {
    const upper = letter.toUpperCase();
    if (letter < '\u0200' || upper.length > 1) {
      throw new UserError(
        `the template writes ${letter} as the first letter of a word, which is not supported`,
      );
    }
  }
  if (!/[ßև\ufb00-\ufb17]/.test(letter)) return letter.toUpperCase();
  const [first, ...rest] = letter.toUpperCase();
  return first + rest.join('').toLowerCase();
}

/** str.capitalize(). */
export function capitalize(text: string): string {
  const first = text === '' ? '' : String.fromCodePoint(text.codePointAt(0)!);
  return first === '' ? '' : titleCase(first) + lowerAfter(first, text.slice(first.length));
}

/** Lower case of what follows a letter: a final sigma is one because of it. */
function lowerAfter(first: string, rest: string): string {
  return (first + rest).toLowerCase().slice(first.toLowerCase().length);
}

/** str.title(): each run of letters. */
export function title(text: string): string {
  return text.replace(/\p{Cased}[\p{Cased}]*/gu, capitalize);
}

/** jinja2's filter title: what follows a blank, a hyphen or an opening bracket. */
export function titleFilter(text: string): string {
  return text
    .split(WORD_BREAK)
    .map((part) => {
      const first = part === '' ? '' : String.fromCodePoint(part.codePointAt(0)!);
      return first.toUpperCase() + part.slice(first.length).toLowerCase();
    })
    .join('');
}

/** str.islower(): there are letters with a case, and all are small. */
export function isLower(text: string): boolean {
  return /\p{Lowercase}/u.test(text) && !/[\p{Uppercase}\p{Lt}]/u.test(text);
}

/** str.isupper(). */
export function isUpper(text: string): boolean {
  return /\p{Uppercase}/u.test(text) && !/[\p{Lowercase}\p{Lt}]/u.test(text);
}

/** str.swapcase(). */
export function swapCase(text: string): string {
  if (text.includes('Σ')) throw new UserError('the template uses swapcase on Σ, which is not supported');
  return Array.from(text, (c) => (isUpper(c) ? c.toLowerCase() : isLower(c) ? c.toUpperCase() : c)).join('');
}

const ESCAPES: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Python's repr() of a string. */
export function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\p{C}\p{Z}\\'"]/gu, (character) => {
    if (character === ' ') return character;
    if (character === "'" || character === '"') return character === quote ? `\\${character}` : character;
    if (ESCAPES[character] !== undefined) return ESCAPES[character];
    const code = character.codePointAt(0)!.toString(16);
    if (code.length <= 2) return `\\x${code.padStart(2, '0')}`;
    return code.length <= 4 ? `\\u${code.padStart(4, '0')}` : `\\U${code.padStart(8, '0')}`;
  });
  return quote + escaped + quote;
}

/** Python's repr() of a float. */
export function floatText(number: number): string {
  if (!Number.isFinite(number)) return Number.isNaN(number) ? 'nan' : number > 0 ? 'inf' : '-inf';
  if (Object.is(number, -0)) return '-0.0';
  const [digits, exponent] = number.toExponential().split('e');
  const power = Number(exponent);
  if (power < -4 || power >= 16) {
    return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
  }
  return Number.isInteger(number) ? number.toFixed(1) : String(number);
}
