/** Functions of Python that chat templates call, where JavaScript's differ. */
import { UserError } from '../base/errors.js';

/** As in jinja2's sandbox. */
const MAX_RANGE = 100_000;

/** Python's range(). */
export function range(first: unknown, second?: unknown, third: unknown = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const numbers = [start, stop, third];
  if (!numbers.every((n): n is number => Number.isInteger(n)) || third === 0) {
    throw new UserError(`the template calls range(${[first, second, third].join(', ')})`);
  }
  const [from, to, step] = numbers;
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (length > MAX_RANGE) throw new UserError(`the template makes a range of ${length} numbers`);
  return Array.from({ length }, (_, i) => from + i * step);
}

const MONTHS = 'January February March April May June July August September October November December'.split(
  ' ',
);
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');
const STRFTIME: Record<string, (date: Date) => string> = {
  Y: (date) => String(date.getFullYear()),
  m: (date) => pad(date.getMonth() + 1),
  d: (date) => pad(date.getDate()),
  B: (date) => MONTHS[date.getMonth()],
  b: (date) => MONTHS[date.getMonth()].slice(0, 3),
  A: (date) => DAYS[date.getDay()],
  a: (date) => DAYS[date.getDay()].slice(0, 3),
  H: (date) => pad(date.getHours()),
  M: (date) => pad(date.getMinutes()),
  S: (date) => pad(date.getSeconds()),
  '%': () => '%',
};

function pad(n: number): string {
  return String(n).padStart(2, '0');
}

/** Python's strftime in the C locale (the library's own follows the language of the machine). */
export function strftime(format: string, date: Date): string {
  return format.replace(/%(.?)/gsu, (directive, letter: string) => {
    const write = STRFTIME[letter];
    if (write === undefined) throw new UserError(`the template formats the date with ${directive}`);
    return write(date);
  });
}

/** What Python's strip() takes away: other than JavaScript's trim() not U+FEFF, but U+001C to U+001F and U+0085. */
function isBlank(character: string): boolean {
  const code = character.charCodeAt(0);
  return (/\s/.test(character) && code !== 0xfeff) || (code >= 0x1c && code <= 0x1f) || code === 0x85;
}

function strip(text: string, characters: string | undefined, left: boolean, right: boolean): string {
  const strips = characters === undefined ? isBlank : (c: string) => characters.includes(c);
  const points = [...text];
  let start = 0;
  let end = points.length;
  while (left && start < end && strips(points[start])) start++;
  while (right && end > start && strips(points[end - 1])) end--;
  return points.slice(start, end).join('');
}

function capitalize(text: string): string {
  const [first = '', ...rest] = [...text];
  return first.toUpperCase() + rest.join('').toLowerCase();
}

export const STRING_METHODS: Record<string, (text: string, characters?: string) => string> = {
  strip: (text, characters) => strip(text, characters, true, true),
  lstrip: (text, characters) => strip(text, characters, true, false),
  rstrip: (text, characters) => strip(text, characters, false, true),
  capitalize,
  title: (text) => text.replace(/\p{L}+/gu, capitalize),
};

export const STRING_FILTERS: Record<string, (text: string, characters?: string) => string> = {
  trim: STRING_METHODS.strip,
  capitalize,
  title: (text) =>
    text
      .split(/([-\s({[<]+)/)
      .map(capitalize)
      .join(''),
};

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
  const [digits, exponent] = number.toExponential().split('e');
  const power = Number(exponent);
  if (power < -4 || power >= 16) {
    return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
  }
  return Number.isInteger(number) ? number.toFixed(1) : String(number);
}
