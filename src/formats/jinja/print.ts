/** Python's str() and repr(), and json.dumps as transformers calls it. */
import { UserError } from '../../base/errors.js';
import type { Budget } from './budget.js';
import { floatText, quoted } from './text.js';
import {
  Dict,
  DictView,
  Iterator,
  List,
  Markup,
  Range,
  Tuple,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

/** Python's str(). */
export function pythonStr(value: Value, budget: Budget): string {
  if (typeof value === 'string') return value;
  if (value instanceof Undefined) return '';
  if (value instanceof Markup) return value.text;
  return pythonRepr(value, budget);
}

/** Python's repr(). */
export function pythonRepr(value: Value, budget: Budget): string {
  budget.step();
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return floatText(value);
  if (typeof value === 'bigint') return integerText(value);
  if (typeof value === 'string') {
    budget.text(value.length);
    return quoted(value);
  }
  if (value instanceof Undefined) return 'Undefined';
  return budget.nested(() => {
    const list = (items: readonly Value[]) =>
      joined(
        items.map((item) => pythonRepr(item, budget)),
        ', ',
        budget,
      );
    if (value instanceof List) return `[${list(value.items)}]`;
    if (value instanceof Tuple)
      return value.items.length === 1 ? `(${list(value.items)},)` : `(${list(value.items)})`;
    if (value instanceof Dict) {
      const pair = ([key, item]: readonly [Value, Value]) =>
        `${pythonRepr(key, budget)}: ${pythonRepr(item, budget)}`;
      return `{${joined(value.pairs().map(pair), ', ', budget)}}`;
    }
    if (value instanceof DictView) return `dict_${value.kind}([${list(value.items())}])`;
    if (value instanceof Range) {
      const step = value.step === 1n ? '' : `, ${value.step}`;
      return `range(${value.start}, ${value.stop}${step})`;
    }
    // Generators, functions and their like print where in memory they lie.
    throw new UserError(`the template prints ${typeOf(value)}, which is not supported`);
  });
}

/** Python writes no integer of more than 4,300 digits as text. */
export function integerText(value: bigint): string {
  const text = String(value);
  if (text.length > 4_300) throw new UserError('the template prints an integer of more than 4300 digits');
  return text;
}

/** Joins, after the budget was asked. */
export function joined(parts: readonly string[], separator: string, budget: Budget): string {
  let length = separator.length * Math.max(0, parts.length - 1);
  for (const part of parts) length += part.length;
  budget.text(length);
  return parts.join(separator);
}

export interface JsonOptions {
  ensureAscii: boolean;
  /** The text of one level; undefined for all on one line. */
  indent: string | undefined;
  separators: readonly [string, string];
  sortKeys: ((keys: Value[]) => Value[]) | undefined;
}

/** json.dumps. */
export function jsonText(value: Value, options: JsonOptions, budget: Budget): string {
  const [itemSeparator, keySeparator] = options.separators;
  const string = (text: string): string => {
    budget.text(text.length);
    return jsonString(text, options.ensureAscii);
  };
  const keyText = (key: Value): string => {
    if (typeof key === 'string') return string(key);
    if (key === null || typeof key === 'boolean' || typeof key === 'bigint' || typeof key === 'number') {
      return `"${write(key, '')}"`;
    }
    throw new UserError(`the template writes ${typeOf(key)} as a key of JSON`);
  };
  const block = (open: string, close: string, parts: readonly string[], indent: string): string => {
    if (parts.length === 0) return open + close;
    if (options.indent === undefined) return open + joined(parts, itemSeparator, budget) + close;
    const inner = `\n${indent}${options.indent}`;
    return `${open}${inner}${joined(parts, itemSeparator + inner, budget)}\n${indent}${close}`;
  };
  function write(item: Value, indent: string): string {
    budget.step();
    if (item === null) return 'null';
    if (typeof item === 'boolean') return String(item);
    if (typeof item === 'bigint') return integerText(item);
    if (typeof item === 'number') {
      if (Number.isNaN(item)) return 'NaN';
      return Number.isFinite(item) ? floatText(item) : item > 0 ? 'Infinity' : '-Infinity';
    }
    if (typeof item === 'string') return string(item);
    const inner = indent + (options.indent ?? '');
    return budget.nested(() => {
      if (item instanceof List || item instanceof Tuple) {
        return block(
          '[',
          ']',
          item.items.map((each) => write(each, inner)),
          indent,
        );
      }
      if (item instanceof Dict) {
        const keys = options.sortKeys ? options.sortKeys(item.keys()) : item.keys();
        const parts = keys.map((key) => keyText(key) + keySeparator + write(item.get(key)!, inner));
        return block('{', '}', parts, indent);
      }
      if (item instanceof Markup) return string(item.text);
      throw new UserError(`the template writes ${typeOf(item)} as JSON, which Python cannot`);
    });
  }
  return write(value, '');
}

const SHORT: Record<string, string> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\f': '\\f',
  '\b': '\\b',
};

// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON escapes them.
const CONTROLS = /["\\\u0000-\u001f]/g;

function jsonString(text: string, ensureAscii: boolean): string {
  const special = ensureAscii ? /[^ !#-[\]-~]/g : CONTROLS;
  return `"${text.replace(
    special,
    (character) => SHORT[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )}"`;
}

/** The items of what can be looped over; a generator is empty afterwards. */
export function itemsOf(value: Value, budget: Budget, use = 'loops over'): readonly Value[] {
  let items: readonly Value[];
  if (typeof value === 'string') {
    budget.step(value.length);
    items = [...value];
  } else if (value instanceof List || value instanceof Tuple) items = value.items;
  else if (value instanceof Dict) items = value.keys();
  else if (value instanceof DictView) items = value.items();
  else if (value instanceof Iterator) items = value.rest();
  else if (value instanceof Undefined) items = [];
  else if (value instanceof Range) items = Array.from({ length: value.length }, (_, i) => value.at(i));
  else throw new UserError(`the template ${use} ${typeOf(value)}`);
  if (typeof value !== 'string') budget.step(items.length);
  return items;
}

/** Whether Python's iter() takes it. */
export function isIterable(value: Value): boolean {
  return (
    typeof value === 'string' ||
    value instanceof List ||
    value instanceof Tuple ||
    value instanceof Dict ||
    value instanceof DictView ||
    value instanceof Iterator ||
    value instanceof Range ||
    value instanceof Undefined ||
    value instanceof Markup
  );
}
