/** Python's two ways to format text: `'%s' % x` and `'{}'.format(x)`. */
import { UserError } from '../../base/errors.js';
import type { Budget } from './budget.js';
import { joined, pythonRepr, pythonStr } from './print.js';
import { quoted } from './text.js';
import {
  type Arguments,
  Dict,
  isInteger,
  isNumber,
  List,
  points,
  Tuple,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

const MAX_WIDTH = 1_000;

/** `format % value`: %s, %r, %d, %i, %u, %x, %X, %o, %f, %F, %e, %E and %%, with flags, width and precision. */
export function percentFormat(format: string, value: Value, budget: Budget): string {
  const values = value instanceof Tuple ? value.items : [value];
  let next = 0;
  let byName = false;
  budget.text(format.length);
  const parts = format.split(/(%(?:\([^()]*\))?[-+ #0]*\d*(?:\.\d*)?.)/s).map((part, i) => {
    if (i % 2 === 0) {
      if (part.includes('%')) throw new UserError('the template ends a format with %');
      return part;
    }
    const [, name, flags, width, dot, letter] = /^%(?:\(([^()]*)\))?([-+ #0]*)(\d*)(\.\d*)?(.)$/s.exec(part)!;
    if (letter === '%' && part === '%%') return '%';
    let item: Value | undefined;
    if (name !== undefined) {
      if (!(value instanceof Dict)) throw new UserError('the template formats by name what is no dict');
      byName = true;
      item = value.get(name);
      if (item === undefined) throw new UserError(`the template formats ${quoted(name)}, which is not there`);
    } else {
      item = values[next++];
      if (item === undefined) throw new UserError('the template gives a format too few values');
    }
    const precision = dot === undefined ? undefined : Number(dot.slice(1));
    if (Number(width) > MAX_WIDTH || (precision ?? 0) > 100) {
      throw new UserError('the template formats to an unlikely width');
    }
    return padded(converted(letter, item, flags, precision, budget), letter, flags, Number(width));
  });
  if (next < values.length && !byName && !(value instanceof Dict || value instanceof List)) {
    throw new UserError('the template gives a format too many values');
  }
  return joined(parts, '', budget);
}

function converted(
  letter: string,
  item: Value,
  flags: string,
  precision: number | undefined,
  budget: Budget,
): string {
  if (letter === 's' || letter === 'r') {
    const text = letter === 's' ? pythonStr(item, budget) : pythonRepr(item, budget);
    return precision === undefined ? text : Array.from(points(text)).slice(0, precision).join('');
  }
  if (item instanceof Undefined) item.fail();
  if (!isNumber(item)) throw new UserError(`the template formats ${typeOf(item)} with %${letter}`);
  const sign = (negative: boolean) =>
    negative ? '-' : flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '';
  if ('diuxXo'.includes(letter)) {
    if (!isInteger(item) && 'xXo'.includes(letter)) {
      throw new UserError(`the template formats ${typeOf(item)} with %${letter}`);
    }
    if (typeof item === 'number' && !Number.isFinite(item))
      throw new UserError('the template formats an infinite number');
    const integer = isInteger(item) ? BigInt(item) : BigInt(Math.trunc(item));
    if (flags.includes('#')) throw new UserError('the template formats with #, which is not supported');
    const base = { x: 16, X: 16, o: 8 }[letter] ?? 10;
    const digits = (integer < 0n ? -integer : integer).toString(base).padStart(precision ?? 0, '0');
    return sign(integer < 0n) + (letter === 'X' ? digits.toUpperCase() : digits);
  }
  if ('fFeE'.includes(letter) && !flags.includes('#')) {
    return (
      sign(Number(item) < 0 || Object.is(item, -0)) +
      floatDigits(letter, Math.abs(Number(item)), precision ?? 6)
    );
  }
  throw new UserError(`the template formats with %${letter}, which is not supported`);
}

/** Python's digits of a number that is not negative. */
function floatDigits(letter: string, value: number, precision: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : 'inf';
  if (letter === 'f' || letter === 'F') return fixed(value, precision);
  const [digits, exponent] = value.toExponential(precision).split('e');
  const power = `${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
  return letter === 'E' ? `${digits}E${power}` : `${digits}e${power}`;
}

/** The decimal digits of a number, rounded half to even on its exact value. */
export function fixed(value: number, precision: number): string {
  const scaled = exactRound(Math.abs(value), precision);
  const digits = String(scaled).padStart(precision + 1, '0');
  const sign = value < 0 ? '-' : '';
  if (precision === 0) return sign + digits;
  return `${sign}${digits.slice(0, -precision)}.${digits.slice(-precision)}`;
}

/** `value` times 10 to the `places`, rounded half to even, with no error on the way. */
export function exactRound(value: number, places: number): bigint {
  let exponent = 0;
  let mantissa = value;
  while (!Number.isInteger(mantissa)) {
    mantissa *= 2;
    exponent++;
  }
  let numerator = BigInt(mantissa);
  let denominator = 1n << BigInt(exponent);
  if (places >= 0) numerator *= 10n ** BigInt(places);
  else denominator *= 10n ** BigInt(-places);
  const floor = numerator / denominator;
  const twice = (numerator % denominator) * 2n;
  return twice > denominator || (twice === denominator && floor % 2n === 1n) ? floor + 1n : floor;
}

function padded(text: string, letter: string, flags: string, width: number): string {
  const missing = width === 0 ? 0 : width - points(text).length;
  if (missing <= 0) return text;
  if (flags.includes('-')) return text + ' '.repeat(missing);
  if (flags.includes('0') && !'sr'.includes(letter)) {
    const sign = /^[-+ ]/.exec(text)?.[0] ?? '';
    return sign + '0'.repeat(missing) + text.slice(sign.length);
  }
  return ' '.repeat(missing) + text;
}

/** str.format with `{}`, `{0}` and `{name}`, alone or with !s or !r. */
export function braceFormat(format: string, { positional, named }: Arguments, budget: Budget): string {
  let next = 0;
  let counted = false;
  budget.text(format.length);
  const parts = format.split(/(\{\{|\}\}|\{[^{}]*\}|[{}])/).map((part, i) => {
    if (i % 2 === 0) return part;
    if (part === '{{' || part === '}}') return part[0];
    const field = /^\{(\d*|[A-Za-z_]\w*)(?:!([rs]))?\}$/.exec(part);
    if (!field) throw new UserError(`the template formats by ${quoted(part)}, which is not supported`);
    const [, name, conversion] = field;
    if (/^\d/.test(name) ? next > 0 : name === '' && counted) {
      throw new UserError('the template formats by number and in order at once');
    }
    counted ||= /^\d/.test(name);
    const key = name === '' ? String(next++) : name;
    const value = /^\d/.test(key) ? positional[Number(key)] : named.get(key);
    if (value === undefined)
      throw new UserError(`the template formats ${quoted(part)}, which it is not given`);
    return conversion === 'r' ? pythonRepr(value, budget) : pythonStr(value, budget);
  });
  return joined(parts, '', budget);
}
