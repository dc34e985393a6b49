/**
 * Python's values as templates see them. Strings, booleans and None are JavaScript's own; an int is a bigint and a
 * float a number, so that each prints, compares and counts as in Python.
 */
import { UserError } from '../../base/errors.js';

export type Value =
  | string
  | boolean
  | null
  | bigint
  | number
  | Undefined
  | List
  | Tuple
  | Dict
  | Range
  | DictView
  | Iterator
  | Namespace
  | Callable
  | Loop
  | Markup;

/** jinja2's Undefined: prints as nothing, is false and empty, and fails in all other uses. */
export class Undefined {
  /** `reason` is the sentence of the error. */
  constructor(readonly reason: string) {}

  fail(): never {
    throw new UserError(`the template uses what is not there: ${this.reason}`);
  }
}

export class List {
  constructor(private readonly held: readonly Value[]) {}

  get items(): readonly Value[] {
    return this.held;
  }

  /** Whether there is an item at an index from the start. */
  has(index: number): boolean {
    return index < this.items.length;
  }

  /** The item at an index, from the end when negative. */
  at(index: number): Value | undefined {
    return this.items.at(index);
  }

  /** All items from an index on. */
  from(start: number): List {
    return new List(this.items.slice(start));
  }
}

export class Tuple {
  /** `fields` name the items of a named tuple. */
  constructor(
    readonly items: readonly Value[],
    readonly fields: readonly string[] = [],
  ) {}
}

/** Keys that Python holds equal (1, 1.0, True) are one. */
export class Dict {
  private readonly entries = new Map<unknown, readonly [Value, Value]>();

  constructor(entries: Iterable<readonly [Value, Value]> = []) {
    for (const [key, value] of entries) this.set(key, value);
  }

  set(key: Value, value: Value): void {
    const hash = hashOf(key);
    this.entries.set(hash, [orElse(this.entries.get(hash)?.[0], key), value]);
  }

  /** undefined where there is none. */
  get(key: Value): Value | undefined {
    return this.entries.get(hashOf(key))?.[1];
  }

  get size(): number {
    return this.entries.size;
  }

  pairs(): (readonly [Value, Value])[] {
    return [...this.entries.values()];
  }

  keys(): Value[] {
    return this.pairs().map(([key]) => key);
  }
}

/** range(): at most 100,000 numbers, as in jinja2's sandbox. */
export class Range {
  readonly length: number;
  constructor(
    readonly start: bigint,
    readonly stop: bigint,
    readonly step: bigint,
  ) {
    const span = step > 0n ? stop - start : start - stop;
    const size = step > 0n ? step : -step;
    const length = span <= 0n ? 0n : (span + size - 1n) / size;
    if (length > 100_000n) throw new UserError(`the template makes a range of ${length} numbers`);
    this.length = Number(length);
  }

  at(index: number): bigint {
    return this.start + this.step * BigInt(index);
  }
}

/** What keys(), values() and items() give. */
export class DictView {
  constructor(
    readonly kind: 'keys' | 'values' | 'items',
    readonly dict: Dict,
  ) {}

  items(): Value[] {
    if (this.kind === 'items') return this.dict.pairs().map((pair) => new Tuple(pair));
    return this.dict.pairs().map(([key, value]) => (this.kind === 'keys' ? key : value));
  }
}

/** A generator, as map, select and their like give: true, without a length, and empty once it was read. */
export class Iterator {
  private next = 0;
  constructor(private readonly items: readonly Value[]) {}

  take(): Value | undefined {
    return this.next < this.items.length ? this.items[this.next++] : undefined;
  }

  rest(): readonly Value[] {
    const rest = this.next === 0 ? this.items : this.items.slice(this.next);
    this.next = this.items.length;
    return rest;
  }
}

export class Namespace {
  readonly values = new Map<string, Value>();
}

export type Arguments = { readonly positional: readonly Value[]; readonly named: ReadonlyMap<string, Value> };

export class Callable {
  constructor(
    readonly name: string,
    readonly call: (args: Arguments) => Value,
    /** The names of the parameters; only a macro shows them. */
    readonly parameters?: readonly string[],
  ) {}
}

/** The variable `loop`; interpreter.ts knows its attributes. */
export class Loop {
  index = 0;
  lastChanged: readonly Value[] | undefined;
  constructor(
    readonly items: List,
    readonly depth: number,
    readonly recurse: ((items: Value) => string) | undefined,
  ) {}
}

/** Text that safe or escape marked. Autoescape is off, so it prints as it is. */
export class Markup {
  constructor(readonly text: string) {}
}

/** What there is; None, which is null, counts as something. */
export function orElse(value: Value | undefined, otherwise: Value): Value {
  return value === undefined ? otherwise : value;
}

/** A Map key that is equal where Python's hash and `==` are. */
function hashOf(key: Value): unknown {
  if (typeof key === 'boolean') return BigInt(key);
  if (typeof key === 'number') return Number.isInteger(key) ? BigInt(key) : key;
  if (key instanceof Tuple) return Symbol.for(`tuple ${key.items.map((item) => hashText(item)).join()}`);
  if (key instanceof Undefined) return UNDEFINED_KEY;
  if (key instanceof List || key instanceof Dict || key instanceof DictView) {
    throw new UserError(`the template uses ${typeOf(key)} as a key`);
  }
  return key;
}
const UNDEFINED_KEY = Symbol('undefined');

function hashText(item: Value): string {
  const hash = hashOf(item);
  if (typeof hash === 'object' && hash !== null) {
    throw new UserError(`the template uses a tuple with ${typeOf(item)} as a key, which is not supported`);
  }
  return typeof hash === 'string' ? JSON.stringify(hash) : `${typeof hash} ${String(hash)}`;
}

/** Whether a value can be a key at all. */
export function isHashable(key: Value): boolean {
  if (key instanceof Tuple) return key.items.every(isHashable);
  return !(key instanceof List || key instanceof Dict || key instanceof DictView);
}

/** Python's name of a value's type, for errors. */
export function typeOf(value: Value): string {
  if (value === null) return 'None';
  switch (typeof value) {
    case 'string':
      return 'a string';
    case 'boolean':
      return 'a bool';
    case 'bigint':
      return 'an integer';
    case 'number':
      return 'a float';
  }
  if (value instanceof Undefined) return 'something undefined';
  if (value instanceof List) return 'a list';
  if (value instanceof Tuple) return 'a tuple';
  if (value instanceof Dict) return 'a dict';
  if (value instanceof Range) return 'a range';
  if (value instanceof DictView) return `the ${value.kind} of a dict`;
  if (value instanceof Iterator) return 'a generator';
  if (value instanceof Namespace) return 'a namespace';
  if (value instanceof Markup) return 'escaped text';
  if (value instanceof Loop) return 'a loop';
  return value.parameters ? 'a macro' : 'a function';
}

export function isNumber(value: Value): value is bigint | number | boolean {
  return typeof value === 'bigint' || typeof value === 'number' || typeof value === 'boolean';
}

/** A bool is an int. */
export function isInteger(value: Value): value is bigint | boolean {
  return typeof value === 'bigint' || typeof value === 'boolean';
}

/** Python's bool(). */
export function truthy(value: Value): boolean {
  if (value === null || value instanceof Undefined) return false;
  if (typeof value !== 'object') return Boolean(value);
  if (value instanceof List) return value.has(0);
  if (value instanceof Tuple) return value.items.length > 0;
  if (value instanceof Dict) return value.size > 0;
  if (value instanceof DictView) return value.dict.size > 0;
  if (value instanceof Range || value instanceof Loop)
    return value instanceof Loop ? value.items.has(0) : value.length > 0;
  if (value instanceof Markup) return value.text !== '';
  return true;
}

/** The code points of a string, which is what Python counts. */
export function points(text: string): ArrayLike<string> & Iterable<string> {
  return hasSurrogates(text) ? [...text] : text;
}

export function hasSurrogates(text: string): boolean {
  return /[\ud800-\udfff]/.test(text);
}

/** The code point at an index, from the end when negative; looks at no more of the text than it has to. */
export function pointAt(text: string, index: number): string | undefined {
  const at = offsetOf(text, index);
  const code = at < 0 || at >= text.length ? undefined : text.codePointAt(at);
  return code === undefined ? undefined : String.fromCodePoint(code);
}

/** `text[start:stop]` of Python. */
export function pointSlice(text: string, start: number, stop: number | undefined): string {
  if (!hasSurrogates(text)) return text.slice(start, stop);
  const end = stop === undefined ? text.length : offsetOf(text, stop);
  return text.slice(Math.max(0, offsetOf(text, start)), Math.max(0, end));
}

/** Where the code point of an index begins: the text's length behind its end, -1 before its start. */
function offsetOf(text: string, index: number): number {
  let at = index < 0 ? text.length : 0;
  for (let i = 0; i < index && at < text.length; i++) at += isPair(text, at) ? 2 : 1;
  for (let i = 0; i > index; i--) {
    if (at <= 0) return -1;
    at -= isPair(text, at - 2) ? 2 : 1;
  }
  return at;
}

/** Whether the two units at an offset are one code point. */
function isPair(text: string, at: number): boolean {
  const [high, low] = [text.charCodeAt(at), text.charCodeAt(at + 1)];
  return high >= 0xd800 && high < 0xdc00 && low >= 0xdc00 && low < 0xe000;
}
