/** Python's operators. */
import { UserError } from '../../base/errors.js';
import type { Comparison, Operator } from './ast.js';
import type { Budget } from './budget.js';
import { percentFormat } from './format.js';
import { itemsOf } from './print.js';
import {
  Dict,
  DictView,
  hasSurrogates,
  Iterator,
  isHashable,
  isInteger,
  isNumber,
  List,
  Markup,
  pointAt,
  pointSlice,
  Range,
  Tuple,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

/** Python's `==`. */
export function equals(a: Value, b: Value, budget: Budget): boolean {
  budget.step();
  if (isNumber(a) && isNumber(b)) return sameNumber(numeric(a), numeric(b));
  if (typeof a === 'string' && typeof b === 'string') {
    if (a.length !== b.length) return false;
    budget.text(a.length);
    return a === b;
  }
  if (a instanceof Undefined && b instanceof Undefined) return true;
  if ((a instanceof List && b instanceof List) || (a instanceof Tuple && b instanceof Tuple)) {
    if (a.items.length !== b.items.length) return false;
    return budget.nested(() => a.items.every((item, i) => equals(item, b.items[i], budget)));
  }
  if (a instanceof Dict && b instanceof Dict) {
    if (a.size !== b.size) return false;
    return budget.nested(() =>
      a.pairs().every(([key, item]) => {
        const other = b.get(key);
        return other !== undefined && equals(item, other, budget);
      }),
    );
  }
  for (const value of [a, b]) {
    if (value instanceof Markup || value instanceof DictView || value instanceof Range) {
      throw new UserError(`the template compares ${typeOf(value)}, which is not supported`);
    }
  }
  return a === b;
}

/** A number for comparisons, which JavaScript makes exactly between bigint and number. */
function numeric(value: bigint | number | boolean): bigint | number {
  return typeof value === 'boolean' ? BigInt(value) : value;
}

function sameNumber(a: bigint | number, b: bigint | number): boolean {
  return a <= b && a >= b;
}

/** Negative, 0 or positive, as Python orders two values; NaN where they have no order. */
export function order(a: Value, b: Value, budget: Budget): number {
  budget.step();
  if (isNumber(a) && isNumber(b)) {
    const [x, y] = [numeric(a), numeric(b)];
    if (x < y) return -1;
    return x > y ? 1 : sameNumber(x, y) ? 0 : Number.NaN;
  }
  if (typeof a === 'string' && typeof b === 'string') {
    budget.text(a.length + b.length);
    return comparePoints(a, b);
  }
  if ((a instanceof List && b instanceof List) || (a instanceof Tuple && b instanceof Tuple)) {
    return budget.nested(() => {
      for (let i = 0; i < Math.min(a.items.length, b.items.length); i++) {
        if (!equals(a.items[i], b.items[i], budget)) return order(a.items[i], b.items[i], budget);
      }
      return a.items.length - b.items.length;
    });
  }
  for (const value of [a, b]) if (value instanceof Undefined) value.fail();
  throw new UserError(`the template orders ${typeOf(a)} and ${typeOf(b)}`);
}

/** JavaScript orders strings by UTF-16 units, Python by code points: they differ beyond U+D800. */
function comparePoints(a: string, b: string): number {
  if (!hasSurrogates(a) && !hasSurrogates(b)) return a < b ? -1 : a > b ? 1 : 0;
  let i = 0;
  while (i < a.length && i < b.length && a[i] === b[i]) i++;
  if (i > 0 && a.charCodeAt(i - 1) >= 0xd800 && a.charCodeAt(i - 1) < 0xdc00) i--;
  return (a.codePointAt(i) ?? -1) - (b.codePointAt(i) ?? -1);
}

/** Sorts as Python's sorted() does, by the keys of the items. */
export function sorted(
  items: readonly Value[],
  keyOf: (item: Value) => Value,
  reverse: boolean,
  budget: Budget,
): Value[] {
  const keyed = items.map((item) => ({ item, key: keyOf(item) }));
  keyed.sort((a, b) => (reverse ? order(b.key, a.key, budget) : order(a.key, b.key, budget)) || 0);
  return keyed.map(({ item }) => item);
}

export function compare(operator: Comparison, a: Value, b: Value, budget: Budget): boolean {
  switch (operator) {
    case '==':
      return equals(a, b, budget);
    case '!=':
      return !equals(a, b, budget);
    case 'in':
      return contains(b, a, budget);
    case 'not in':
      return !contains(b, a, budget);
    case '<':
      return order(a, b, budget) < 0;
    case '<=':
      return order(a, b, budget) <= 0;
    case '>':
      return order(a, b, budget) > 0;
    case '>=':
      return order(a, b, budget) >= 0;
  }
}

/** Python's `item in container`. */
export function contains(container: Value, item: Value, budget: Budget): boolean {
  if (typeof container === 'string') {
    if (typeof item !== 'string') throw new UserError(`the template looks for ${typeOf(item)} in a string`);
    budget.text(container.length);
    return container.includes(item);
  }
  if (container instanceof Dict || (container instanceof DictView && container.kind === 'keys')) {
    if (!isHashable(item))
      throw new UserError(`the template looks for ${typeOf(item)} among the keys of a dict`);
    if (typeof item === 'string') budget.text(item.length);
    return (container instanceof Dict ? container : container.dict).get(item) !== undefined;
  }
  if (container instanceof Iterator || container instanceof Markup) {
    throw new UserError(`the template looks for something in ${typeOf(container)}, which is not supported`);
  }
  return itemsOf(container, budget, 'looks for something in').some((other) => equals(other, item, budget));
}

const BEYOND = 15_000n;
const LARGEST = 1n << BEYOND;

export function arithmetic(operator: Operator, a: Value, b: Value, budget: Budget): Value {
  for (const value of [a, b]) if (value instanceof Undefined) value.fail();
  for (const value of [a, b]) {
    if (value instanceof Markup)
      throw new UserError(`the template uses ${operator} on escaped text, which is not supported`);
  }
  if (isNumber(a) && isNumber(b)) return onNumbers(operator, numeric(a), numeric(b));
  if (operator === '+') {
    if (typeof a === 'string' && typeof b === 'string') return joinTwo(a, b, budget);
    if (a instanceof List && b instanceof List) return new List(both(a, b, budget));
    if (a instanceof Tuple && b instanceof Tuple) return new Tuple(both(a, b, budget));
    throw new UserError(`the template adds ${typeOf(b)} to ${typeOf(a)}`);
  }
  if (operator === '*') {
    if (isInteger(b)) return repeat(a, b, budget);
    if (isInteger(a)) return repeat(b, a, budget);
  }
  if (operator === '%' && typeof a === 'string') return percentFormat(a, b, budget);
  throw new UserError(`the template uses ${operator} on ${typeOf(a)} and ${typeOf(b)}`);
}

/** Joining two texts costs JavaScript nothing, so only the length counts. */
export function joinTwo(a: string, b: string, budget: Budget): string {
  budget.length(a.length + b.length);
  return a + b;
}

function both(a: List | Tuple, b: List | Tuple, budget: Budget): Value[] {
  budget.step(a.items.length + b.items.length);
  return [...a.items, ...b.items];
}

function repeat(value: Value, times: bigint | boolean, budget: Budget): Value {
  const count = Math.max(0, Number(times));
  if (typeof value === 'string') {
    budget.text(value.length * count);
    return value === '' ? '' : value.repeat(count);
  }
  if (!(value instanceof List || value instanceof Tuple)) {
    throw new UserError(`the template uses * on ${typeOf(value)} and an integer`);
  }
  budget.step(value.items.length * count);
  const items = value.items.length === 0 ? [] : Array.from({ length: count }, () => value.items).flat();
  return value instanceof List ? new List(items) : new Tuple(items);
}

function onNumbers(operator: Operator, a: bigint | number, b: bigint | number): Value {
  if (typeof a === 'bigint' && typeof b === 'bigint') {
    const result = onIntegers(operator, a, b);
    if (typeof result === 'bigint' && (result > LARGEST || result < -LARGEST)) {
      throw new UserError('the template computes an integer that is too large');
    }
    return result;
  }
  const [x, y] = [toFloat(a), toFloat(b)];
  switch (operator) {
    case '+':
      return x + y;
    case '-':
      return x - y;
    case '*':
      return x * y;
    case '/':
      return x / notZero(y);
    case '//': {
      const quotient = (x - floatModulo(x, notZero(y))) / y;
      return quotient === 0 ? Math.sign(x / y) * 0 : Math.round(quotient);
    }
    case '%':
      return floatModulo(x, notZero(y));
    case '**': {
      const power = x ** y;
      const odd =
        (x === 0 && y < 0) ||
        (x < 0 && !Number.isInteger(y)) ||
        (!Number.isFinite(power) && Number.isFinite(x));
      if (odd || Math.abs(x) === 1) {
        throw new UserError(`the template computes ${x} ** ${y}, which is not supported`);
      }
      return power;
    }
  }
}

function onIntegers(operator: Operator, a: bigint, b: bigint): Value {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      notZero(b);
      for (const n of [a, b]) {
        if (!Number.isSafeInteger(Number(n)))
          throw new UserError('the template divides integers beyond 2**53, which is not supported');
      }
      return Number(a) / Number(b);
    case '//':
      return (a - modulo(a, notZero(b))) / b;
    case '%':
      return modulo(a, notZero(b));
    case '**': {
      if (b < 0n) return onNumbers('**', toFloat(a), toFloat(b));
      const bits = BigInt((a < 0n ? -a : a).toString(2).length);
      if (bits * b > BEYOND) throw new UserError('the template computes an integer that is too large');
      return a ** b;
    }
  }
}

function toFloat(value: bigint | number): number {
  const float = Number(value);
  if (typeof value === 'bigint' && !Number.isFinite(float)) {
    throw new UserError('the template makes a float of an integer that is too large');
  }
  return float;
}

function notZero<T extends bigint | number>(value: T): T {
  if (sameNumber(value, 0)) throw new UserError('the template divides by zero');
  return value;
}

/** With the sign of the divisor. */
function modulo(a: bigint, b: bigint): bigint {
  const rest = a % b;
  return rest !== 0n && rest < 0n !== b < 0n ? rest + b : rest;
}

function floatModulo(a: number, b: number): number {
  const rest = a % b;
  if (rest === 0) return b < 0 ? -0 : 0;
  return rest < 0 !== b < 0 ? rest + b : rest;
}

/** Python's len(). */
export function lengthOf(value: Value, budget: Budget): number {
  if (typeof value === 'string' || value instanceof Markup) {
    const text = typeof value === 'string' ? value : value.text;
    budget.text(text.length);
    if (!hasSurrogates(text)) return text.length;
    let length = 0;
    for (const _ of text) length++;
    return length;
  }
  if (value instanceof List || value instanceof Tuple) return value.items.length;
  if (value instanceof Dict) return value.size;
  if (value instanceof DictView) return value.dict.size;
  if (value instanceof Range) return value.length;
  if (value instanceof Undefined) return 0;
  throw new UserError(`the template asks for the length of ${typeOf(value)}`);
}

/** `value[start:stop:step]`. */
export function slice(value: Value, bounds: readonly (Value | undefined)[], budget: Budget): Value {
  if (value instanceof Undefined) return value.fail();
  if (
    !(typeof value === 'string' || value instanceof List || value instanceof Tuple || value instanceof Range)
  ) {
    throw new UserError(`the template takes a slice of ${typeOf(value)}`);
  }
  const [start, stop, step = 1] = bounds.map((bound) => {
    if (bound === undefined || bound === null) return undefined;
    if (!isInteger(bound)) throw new UserError(`the template takes a slice by ${typeOf(bound)}`);
    return Math.max(-2e9, Math.min(2e9, Number(bound)));
  });
  if (step === 0) throw new UserError('the template takes a slice with step 0');
  if (typeof value === 'string') {
    budget.text(value.length);
    if (step === 1) return pointSlice(value, start ?? 0, stop);
    budget.step(value.length);
    return pick([...value], start, stop, step).join('');
  }
  if (value instanceof List && start !== undefined && start >= 0 && stop === undefined && step === 1) {
    return value.from(start);
  }
  const items = itemsOf(value, budget);
  const picked = pick(items, start, stop, step);
  if (value instanceof List) return new List(picked);
  if (value instanceof Tuple) return new Tuple(picked);
  throw new UserError('the template takes a slice of a range, which is not supported');
}

function pick<T>(
  items: readonly T[],
  start: number | undefined,
  stop: number | undefined,
  step: number,
): T[] {
  const { length } = items;
  const clamp = (bound: number, low: number, high: number) =>
    Math.max(low, Math.min(high, bound < 0 ? bound + length : bound));
  const [low, high] = step > 0 ? [0, length] : [-1, length - 1];
  const from = start === undefined ? (step > 0 ? low : high) : clamp(start, low, high);
  const to = stop === undefined ? (step > 0 ? high : low) : clamp(stop, low, high);
  if (step === 1) return items.slice(from, Math.max(from, to));
  const picked: T[] = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step) picked.push(items[i]);
  return picked;
}

/** `value[key]` of Python, or undefined where it raises an error. */
export function subscript(value: Value, key: Value, budget: Budget): Value | undefined {
  if (value instanceof Dict) {
    if (typeof key === 'string') budget.text(key.length);
    return isHashable(key) ? value.get(key) : undefined;
  }
  if (!isInteger(key)) return undefined;
  const index = Number(key);
  if (typeof value === 'string') {
    budget.text(Math.min(value.length, 2 * Math.abs(index) + 2));
    return pointAt(value, index);
  }
  if (value instanceof List) return value.at(index);
  if (value instanceof Tuple) return value.items.at(index);
  if (value instanceof Range) {
    const at = index < 0 ? index + value.length : index;
    return at >= 0 && at < value.length ? value.at(at) : undefined;
  }
  if (value instanceof Markup)
    throw new UserError('the template takes a part of escaped text, which is not supported');
  return undefined;
}
