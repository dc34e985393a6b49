/** JSON without JavaScript's losses: large integers, 1.0 beside 1, and the order of keys that are numbers. */
import { parseJsonText } from './json.js';

/** A number written with a point or an exponent whose value is whole: 1.0 or 1e5. */
export class JsonFloat {
  constructor(readonly value: number) {}

  toJSON(): number {
    return this.value;
  }
}

/** Numbers that lose something as JavaScript's, and keys that its objects put first or take for their prototype. */
const LOSES = /(?:^|[:[,])\s*-?(?:\d+[.eE]|\d{16}|0(?!\d))|"(?:\d+|__proto__)"\s*:/;

/**
 * As parseJsonText, but an integer that no number holds is a bigint, a whole number written as a float a JsonFloat, and
 * an object with such keys a Map. All else is what JSON.parse gives. With `keys`, only what stands under one of these is so.
 */
export function parseExactJson(place: string, text: string, keys?: readonly string[]): unknown {
  const parsed = parseJsonText(place, text);
  const exact = LOSES.test(text) && (!keys || keys.some((key) => text.includes(`"${key}"`)));
  return exact ? new Reader(text, keys).value() : parsed;
}

/**
 * JSON of a value, in which a whole number is written as a float where one stands in `original`, the text that it was parsed
 * from before it was changed: Python's programs tell 2.0 from 2.
 */
export function jsonTextLike(value: unknown, original: string): string {
  return textOf(value, parseExactJson('it', original), '\n');
}

function textOf(value: unknown, like: unknown, line: string): string {
  if (like instanceof JsonFloat && value === like.value) return value.toFixed(1);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const inner = `${line}  `;
  const list = (open: string, items: readonly string[], close: string) =>
    items.length === 0 ? `${open}${close}` : `${open}${inner}${items.join(`,${inner}`)}${line}${close}`;
  if (Array.isArray(value)) {
    const items = value.map((item, i) => textOf(item, Array.isArray(like) ? like[i] : undefined, inner));
    return list('[', items, ']');
  }
  const others = like instanceof Map ? like : new Map(Object.entries(like ?? {}));
  const items = Object.entries(value).map(
    ([key, item]) => `${JSON.stringify(key)}: ${textOf(item, others.get(key), inner)}`,
  );
  return list('{', items, '}');
}

/** Reads what JSON.parse took and what is known to nest little. */
class Reader {
  private at = 0;
  /** How many of the objects and keys around ask for what is exact. */
  private exact: number;

  constructor(
    private readonly text: string,
    private readonly keys?: readonly string[],
  ) {
    this.exact = keys ? 0 : 1;
  }

  value(): unknown {
    this.blanks();
    switch (this.text[this.at]) {
      case '{':
        return this.object();
      case '[':
        return this.array();
      case '"':
        return this.string();
      case 't':
        this.at += 4;
        return true;
      case 'f':
        this.at += 5;
        return false;
      case 'n':
        this.at += 4;
        return null;
      default:
        return this.number();
    }
  }

  private blanks(): void {
    while (' \t\n\r'.includes(this.text[this.at] ?? 'x')) this.at++;
  }

  /** Whether the list or object ends here; else passes the comma between two of its items. */
  private ends(close: string): boolean {
    this.blanks();
    const found = this.text[this.at];
    if (found === close || found === ',') this.at++;
    return found === close;
  }

  private array(): unknown[] {
    this.at++;
    const items: unknown[] = [];
    while (!this.ends(']')) items.push(this.value());
    return items;
  }

  private object(): unknown {
    this.at++;
    const entries = new Map<string, unknown>();
    let plain = true;
    while (!this.ends('}')) {
      this.blanks();
      const key = this.string();
      this.blanks();
      this.at++;
      const asks = this.keys?.includes(key) ? 1 : 0;
      this.exact += asks;
      entries.set(key, this.value());
      this.exact -= asks;
      plain &&= !/^(?:\d+|__proto__)$/.test(key);
    }
    return plain || this.exact === 0 ? Object.fromEntries(entries) : entries;
  }

  private string(): string {
    const start = this.at;
    for (this.at++; this.text[this.at] !== '"'; this.at++) if (this.text[this.at] === '\\') this.at++;
    this.at++;
    return JSON.parse(this.text.slice(start, this.at));
  }

  private number(): unknown {
    const [written] = /[-+.\deE]+/.exec(this.text.slice(this.at, this.at + MAX_NUMBER)) ?? [''];
    this.at += written.length;
    if (this.exact === 0) return Number(written);
    if (/^-?\d+$/.test(written)) {
      const value = Number(written);
      return Number.isSafeInteger(value) ? value + 0 : BigInt(written);
    }
    const value = Number(written);
    return Number.isSafeInteger(value) ? new JsonFloat(value) : value;
  }
}

/** Longer than Python reads one. */
const MAX_NUMBER = 4_300;
