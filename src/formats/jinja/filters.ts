/** jinja2's filters of one value; those of lists are in listFilters.ts. */
import { UserError } from '../../base/errors.js';
import { integerOf, stringOf, take } from './arguments.js';
import type { Budget } from './budget.js';
import { type Filter, type FilterContext, lowered } from './filter.js';
import { exactRound, percentFormat } from './format.js';
import { LIST_FILTERS } from './listFilters.js';
import { centred, replace } from './methods.js';
import { arithmetic, lengthOf, sorted } from './operations.js';
import { integerText, itemsOf, jsonText, pythonStr } from './print.js';
import { capitalize, lines, strip, titleFilter } from './text.js';
import {
  type Arguments,
  Dict,
  Iterator,
  isInteger,
  isNumber,
  List,
  Markup,
  orElse,
  points,
  Tuple,
  truthy,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

const FILTERS: Record<string, Filter> = {
  abs: (value, args) => {
    take('abs', args, []);
    if (value instanceof Undefined) return value.fail();
    if (!isNumber(value)) throw new UserError(`the template asks for the absolute value of ${typeOf(value)}`);
    if (typeof value === 'number') return Math.abs(value);
    const integer = BigInt(value);
    return integer < 0n ? -integer : integer;
  },
  attr: (value, args, context) => {
    const [name] = take('attr', args, ['name']);
    return context.attribute(value, stringOf('attr', name));
  },
  capitalize: text('capitalize', capitalize),
  center: (value, args, { budget }) => {
    const [width = 80n] = take('center', args, ['width']);
    const written = pythonStr(value, budget);
    const wide = integerOf('center', width);
    budget.text(Math.max(wide, 0) + written.length);
    const missing = wide - points(written).length;
    if (missing <= 0) return written;
    const before = centred(missing, wide);
    return ' '.repeat(before) + written + ' '.repeat(missing - before);
  },
  default: otherwise,
  d: otherwise,
  dictsort: (value, args, { budget }) => {
    const [caseSensitive = false, by = 'key', reverse = false] = take('dictsort', args, [
      'case_sensitive',
      'by',
      'reverse',
    ]);
    if (by !== 'key' && by !== 'value')
      throw new UserError('the template sorts a dict by neither key nor value');
    if (value instanceof Undefined) return value.fail();
    if (!(value instanceof Dict)) throw new UserError(`the template uses dictsort on ${typeOf(value)}`);
    const pairs = value.pairs().map((pair) => new Tuple(pair));
    const keyOf = (pair: Value) => (pair as Tuple).items[by === 'key' ? 0 : 1];
    const folded = truthy(caseSensitive) ? keyOf : (pair: Value) => lowered(keyOf(pair));
    return new List(sorted(pairs, folded, truthy(reverse), budget));
  },
  escape: escaped,
  e: escaped,
  forceescape: (value, args, { budget }) => {
    take('forceescape', args, []);
    return new Markup(escapeText(pythonStr(value, budget), budget));
  },
  float: (value, args) => {
    const [fallback = 0] = take('float', args, ['default']);
    return orElse(parseFloat_(value), fallback);
  },
  format: (value, args, { budget }) => {
    const { positional, named } = args;
    if (positional.length > 0 && named.size > 0)
      throw new UserError('the template formats by position and by name at once');
    const values =
      named.size > 0
        ? new Dict([...named].map(([key, item]) => [key, item] as const))
        : new Tuple(positional);
    return percentFormat(pythonStr(value, budget), values, budget);
  },
  indent: (value, args, { budget }) => {
    const [width = 4n, first = false, blank = false] = take('indent', args, ['width', 'first', 'blank']);
    if (typeof value !== 'string') throw new UserError(`the template indents ${typeOf(value)}`);
    budget.text(value.length);
    const indentation = typeof width === 'string' ? width : spaces(integerOf('indent', width), budget);
    const all = lines(`${value}\n`);
    budget.text(all.length * indentation.length + value.length);
    const indented = all.map((line, i) =>
      (i === 0 ? truthy(first) : line !== '' || truthy(blank)) ? indentation + line : line,
    );
    return indented.join('\n');
  },
  int: (value, args) => {
    const [fallback = 0n, base = 10n] = take('int', args, ['default', 'base']);
    if (base !== 10n)
      throw new UserError('the template reads an integer in another base, which is not supported');
    return orElse(parseInteger(value), fallback);
  },
  items: (value, args) => {
    take('items', args, []);
    if (value instanceof Undefined) return new Iterator([]);
    if (!(value instanceof Dict)) throw new UserError(`the template asks for the items of ${typeOf(value)}`);
    return new Iterator(value.pairs().map((pair) => new Tuple(pair)));
  },
  length: count,
  count,
  lower: text('lower', (written) => written.toLowerCase()),
  upper: text('upper', (written) => written.toUpperCase()),
  replace: (value, args, { budget }) => {
    const [old, new_, times] = take('replace', args, ['old', 'new', 'count']);
    if (old === undefined || new_ === undefined)
      throw new UserError('the template gives replace too few arguments');
    const most = times === undefined || times === null ? -1 : integerOf('replace', times);
    return replace(pythonStr(value, budget), pythonStr(old, budget), pythonStr(new_, budget), most, budget);
  },
  round: (value, args, { budget }) => {
    const [precision = 0n, method = 'common'] = take('round', args, ['precision', 'method']);
    const places = integerOf('round', precision);
    if (!['common', 'ceil', 'floor'].includes(method as string)) {
      throw new UserError('the template rounds by another method than common, ceil or floor');
    }
    return round(value, places, method as 'common' | 'ceil' | 'floor', budget);
  },
  safe: (value, args, { budget }) => {
    take('safe', args, []);
    return new Markup(pythonStr(value, budget));
  },
  string: (value, args, { budget }) => {
    take('string', args, []);
    return value instanceof Markup ? value : pythonStr(value, budget);
  },
  title: text('title', titleFilter),
  tojson: (value, args, { budget }) => {
    const [ensureAscii = false, indent = null, separators = null, sortKeys = false] = take('tojson', args, [
      'ensure_ascii',
      'indent',
      'separators',
      'sort_keys',
    ]);
    const level =
      indent === null
        ? undefined
        : typeof indent === 'string'
          ? indent
          : spaces(integerOf('tojson', indent), budget);
    return jsonText(
      value,
      {
        ensureAscii: truthy(ensureAscii),
        indent: level,
        separators: separatorsOf(separators, level !== undefined, budget),
        sortKeys: truthy(sortKeys) ? (keys) => sorted(keys, (key) => key, false, budget) : undefined,
      },
      budget,
    );
  },
  trim: (value, args, { budget }) => {
    const [characters] = take('trim', args, ['chars']);
    const set = characters === undefined || characters === null ? undefined : stringOf('trim', characters);
    const written = pythonStr(value, budget);
    budget.text(written.length + (set?.length ?? 0));
    return strip(written, set, true, true);
  },
  truncate: (value, args, { budget }) => {
    const [length = 255n, killWords = false, end = '...', leeway] = take('truncate', args, [
      'length',
      'killwords',
      'end',
      'leeway',
    ]);
    const suffix = stringOf('truncate', end);
    const most = integerOf('truncate', length);
    const spare = leeway === undefined || leeway === null ? 5 : integerOf('truncate', leeway);
    if (most < points(suffix).length || spare < 0)
      throw new UserError('the template truncates to less than nothing');
    if (lengthOf(value, budget) <= most + spare) return value;
    if (typeof value !== 'string') {
      throw new UserError(`the template truncates ${typeOf(value)}, which is not supported`);
    }
    const all = Array.from(value);
    const cut = all.slice(0, most - points(suffix).length).join('');
    return (truthy(killWords) ? cut : cut.includes(' ') ? cut.slice(0, cut.lastIndexOf(' ')) : cut) + suffix;
  },
  urlencode: (value, args, { budget }) => {
    take('urlencode', args, []);
    if (typeof value !== 'string')
      throw new UserError(`the template uses urlencode on ${typeOf(value)}, which is not supported`);
    if (/\p{Cs}/u.test(value)) throw new UserError('the template uses urlencode on half a character');
    budget.text(value.length * 9);
    return encodeURIComponent(value)
      .replaceAll('%2F', '/')
      .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  },
  wordcount: (value, args, { budget }) => {
    take('wordcount', args, []);
    const written = pythonStr(value, budget);
    budget.text(written.length);
    return BigInt(written.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0);
  },
};

/** The filter of that name, or undefined. */
export function filterOf(name: string): Filter | undefined {
  if (Object.hasOwn(FILTERS, name)) return FILTERS[name];
  return Object.hasOwn(LIST_FILTERS, name) ? LIST_FILTERS[name] : undefined;
}

function text(name: string, of: (written: string) => string): Filter {
  return (value, args, { budget }) => {
    take(name, args, []);
    const written = pythonStr(value, budget);
    budget.text(written.length);
    return of(written);
  };
}

function otherwise(value: Value, args: Arguments): Value {
  const [fallback = '', boolean = false] = take('default', args, ['default_value', 'boolean']);
  return value instanceof Undefined || (truthy(boolean) && !truthy(value)) ? fallback : value;
}

function count(value: Value, args: Arguments, { budget }: FilterContext): Value {
  take('length', args, []);
  return BigInt(lengthOf(value, budget));
}

function escaped(value: Value, args: Arguments, { budget }: FilterContext): Value {
  take('escape', args, []);
  return value instanceof Markup ? value : new Markup(escapeText(pythonStr(value, budget), budget));
}

const HTML: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&#39;', '"': '&#34;' };

function escapeText(written: string, budget: Budget): string {
  budget.text(written.length * 5);
  return written.replace(/[&<>'"]/g, (character) => HTML[character]);
}

function spaces(many: number, budget: Budget): string {
  budget.text(Math.max(0, many));
  return ' '.repeat(Math.max(0, many));
}

function separatorsOf(value: Value, indented: boolean, budget: Budget): readonly [string, string] {
  if (value === null) return [indented ? ',' : ', ', ': '];
  const items = itemsOf(value, budget, 'separates JSON by');
  if (items.length !== 2) throw new UserError('the template gives tojson other than two separators');
  return [stringOf('tojson', items[0]), stringOf('tojson', items[1])];
}

const DIGITS = /^[-+]?\d+(_\d+)*$/;
const FLOAT = /^[-+]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+(_\d+)*)(e[-+]?\d+(_\d+)*)?$/i;

/** Python's float() of a number or a text; undefined where it fails. */
function parseFloat_(value: Value): number | undefined {
  if (value instanceof Undefined) return value.fail();
  if (isNumber(value)) return Number(value);
  if (typeof value !== 'string') return undefined;
  const written = strip(value, undefined, true, true);
  if (FLOAT.test(written)) return Number(written.replaceAll('_', ''));
  const name = /^([-+]?)(inf|infinity|nan)$/i.exec(written);
  if (name) return name[2].toLowerCase() === 'nan' ? Number.NaN : name[1] === '-' ? -Infinity : Infinity;
  if (/[^\0-\x7f]/.test(written) && /\p{Nd}/u.test(written))
    throw new UserError('the template reads a number of other digits than 0 to 9');
  return undefined;
}

/** Python's int() of a number or a text, of a float's text too; undefined where it fails. */
function parseInteger(value: Value): bigint | undefined {
  if (isInteger(value)) return BigInt(value);
  if (typeof value === 'string') {
    const written = strip(value, undefined, true, true);
    if (DIGITS.test(written) && written.length <= 4_300) {
      const digits = written.replaceAll('_', '').replace(/^\+/, '');
      return digits.startsWith('-') ? -BigInt(digits.slice(1)) : BigInt(digits);
    }
  }
  const float = parseFloat_(value);
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new UserError('the template makes an integer of a number that is not finite');
  }
  return float === undefined || !Number.isFinite(float) ? undefined : BigInt(Math.trunc(float));
}

function round(value: Value, places: number, method: 'common' | 'ceil' | 'floor', budget: Budget): Value {
  if (value instanceof Undefined) return value.fail();
  if (!isNumber(value)) throw new UserError(`the template rounds ${typeOf(value)}`);
  if (Math.abs(places) > 300) throw new UserError(`the template rounds to ${places} places`);
  if (method !== 'common') {
    const scale = arithmetic('**', 10n, BigInt(places), budget);
    const scaled = arithmetic('*', value, scale, budget);
    if (typeof scaled === 'number' && !Number.isFinite(scaled))
      throw new UserError('the template rounds an infinite number');
    const whole = typeof scaled === 'number' ? BigInt(Math[method](scaled)) : (scaled as bigint);
    return arithmetic('/', whole, scale, budget);
  }
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) return value;
    // do_round calls round(value, precision): a float stays one.
    const scaled = exactRound(Math.abs(value), places);
    const rounded = Number(`${integerText(scaled)}e${-places}`);
    return value < 0 || Object.is(value, -0) ? -rounded : rounded;
  }
  const integer = BigInt(value);
  if (places >= 0) return integer;
  const unit = 10n ** BigInt(-places);
  const size = integer < 0n ? -integer : integer;
  let tens = size / unit;
  const twice = (size % unit) * 2n;
  if (twice > unit || (twice === unit && tens % 2n === 1n)) tens += 1n;
  return integer < 0n ? -tens * unit : tens * unit;
}
