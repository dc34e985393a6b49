/** The methods of Python's strings, lists and dicts that a template may call. */
import { UserError } from '../../base/errors.js';
import { integerOf, stringOf, take } from './arguments.js';
import type { Budget } from './budget.js';
import { braceFormat } from './format.js';
import { equals } from './operations.js';
import { itemsOf, joined } from './print.js';
import { capitalize, isBlank, isLower, isUpper, lines, strip, swapCase, title, words } from './text.js';
import {
  type Arguments,
  Callable,
  Dict,
  DictView,
  hasSurrogates,
  isHashable,
  isNumber,
  List,
  orElse,
  points,
  Tuple,
  truthy,
  typeOf,
  type Value,
} from './values.js';

type Method<T> = (self: T, args: Arguments, budget: Budget) => Value;

/** What the types of Python have besides the methods below: refused, not taken for missing. */
const UNSUPPORTED = {
  string: 'encode format_map isidentifier isprintable maketrans translate casefold expandtabs',
  number:
    'as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag numerator real to_bytes fromhex hex is_integer',
  list: 'append clear extend insert pop remove reverse sort',
  dict: 'clear fromkeys pop popitem setdefault update',
};

/**
 * The method of that name; undefined where the value's type has none.
 * @throws UserError for those of Python that the sandbox forbids or that are not supported here.
 */
export function methodOf(value: Value, name: string, budget: Budget): Callable | undefined {
  const bound = <T extends Value>(methods: Record<string, Method<T>>, self: T, others: string) => {
    if (Object.hasOwn(methods, name)) return new Callable(name, (args) => methods[name](self, args, budget));
    return unsupported(value, name, others);
  };
  if (typeof value === 'string') return bound(STRING, value, UNSUPPORTED.string);
  if (value instanceof List) return bound(SEQUENCE, value, UNSUPPORTED.list);
  if (value instanceof Tuple) return bound(SEQUENCE, value, '');
  if (value instanceof Dict) return bound(DICT, value, UNSUPPORTED.dict);
  if (isNumber(value)) return unsupported(value, name, UNSUPPORTED.number);
  return undefined;
}

function unsupported(value: Value, name: string, others: string): undefined {
  if (others.split(' ').includes(name) || /^__\w+__$/.test(name)) {
    throw new UserError(`the template uses ${name} of ${typeOf(value)}, which is not supported`);
  }
}

const DICT: Record<string, Method<Dict>> = {
  keys: (self, args) => none('keys', args, () => new DictView('keys', self)),
  values: (self, args) => none('values', args, () => new DictView('values', self)),
  items: (self, args) => none('items', args, () => new DictView('items', self)),
  copy: (self, args) => none('copy', args, () => new Dict(self.pairs())),
  get: (self, { positional, named }, budget) => {
    const [key, otherwise = null] = positional;
    if (key === undefined || positional.length > 2 || named.size > 0) {
      throw new UserError('the template gives get other than one or two arguments');
    }
    if (!isHashable(key)) throw new UserError(`the template gives get ${typeOf(key)} for a key`);
    if (typeof key === 'string') budget.text(key.length);
    return orElse(self.get(key), otherwise);
  },
};

const SEQUENCE: Record<string, Method<List | Tuple>> = {
  count: (self, args, budget) => {
    const [wanted] = required('count', args, ['value']);
    return BigInt(self.items.filter((item) => equals(item, wanted, budget)).length);
  },
  index: (self, args, budget) => {
    const [wanted] = required('index', args, ['value']);
    const at = self.items.findIndex((item) => equals(item, wanted, budget));
    if (at === -1) throw new UserError('the template asks for the index of what is not in the list');
    return BigInt(at);
  },
  copy: (self, args) => {
    if (self instanceof Tuple) throw new UserError('the template uses copy of a tuple, which has none');
    return none('copy', args, () => new List(self.items));
  },
};

const STRING: Record<string, Method<string>> = {
  strip: stripping(true, true),
  lstrip: stripping(true, false),
  rstrip: stripping(false, true),
  upper: plain('upper', (self) => self.toUpperCase()),
  lower: plain('lower', (self) => self.toLowerCase()),
  capitalize: plain('capitalize', capitalize),
  title: plain('title', title),
  swapcase: plain('swapcase', swapCase),
  split: (self, args, budget) => {
    const [separator, most] = take('split', args, ['sep', 'maxsplit']);
    const times = most === undefined ? -1 : integerOf('split', most);
    budget.text(self.length);
    const parts =
      separator === undefined || separator === null
        ? words(self, times)
        : splitBy(self, stringOf('split', separator), times);
    return texts(parts, budget);
  },
  rsplit: (self, args, budget) => {
    const [separator, most] = take('rsplit', args, ['sep', 'maxsplit']);
    const times = most === undefined ? -1 : integerOf('rsplit', most);
    budget.text(self.length);
    if (separator === undefined || separator === null) {
      if (times >= 0)
        throw new UserError(
          'the template uses rsplit by white space a number of times, which is not supported',
        );
      return texts(words(self), budget);
    }
    const by = stringOf('rsplit', separator);
    return texts(times < 0 ? splitBy(self, by, -1) : splitFromEnd(self, by, times), budget);
  },
  splitlines: (self, args, budget) => {
    const [keepEnds = false] = take('splitlines', args, ['keepends']);
    budget.text(self.length);
    return texts(lines(self, truthy(keepEnds)), budget);
  },
  partition: (self, args, budget) => {
    const by = separatorOf('partition', args);
    budget.text(self.length);
    const at = self.indexOf(by);
    return new Tuple(at === -1 ? [self, '', ''] : [self.slice(0, at), by, self.slice(at + by.length)]);
  },
  rpartition: (self, args, budget) => {
    const by = separatorOf('rpartition', args);
    budget.text(self.length);
    const at = self.lastIndexOf(by);
    return new Tuple(at === -1 ? ['', '', self] : [self.slice(0, at), by, self.slice(at + by.length)]);
  },
  join: (self, args, budget) => {
    const [list] = required('join', args, ['iterable']);
    const parts = itemsOf(list, budget, 'joins').map((item) => stringOf('join', item));
    return joined(parts, self, budget);
  },
  replace: (self, args, budget) => {
    const [old, new_, count] = required('replace', args, ['old', 'new'], ['count']);
    return replace(
      self,
      stringOf('replace', old),
      stringOf('replace', new_),
      count === undefined ? -1 : integerOf('replace', count),
      budget,
    );
  },
  removeprefix: (self, args, budget) => {
    const prefix = separatorOf('removeprefix', args, true);
    budget.text(self.length);
    return self.startsWith(prefix) ? self.slice(prefix.length) : self;
  },
  removesuffix: (self, args, budget) => {
    const suffix = separatorOf('removesuffix', args, true);
    budget.text(self.length);
    return suffix !== '' && self.endsWith(suffix) ? self.slice(0, -suffix.length) : self;
  },
  startswith: affix('startswith', (self, part) => self.startsWith(part)),
  endswith: affix('endswith', (self, part) => self.endsWith(part)),
  find: finding('find', (self, part) => self.indexOf(part)),
  rfind: finding('rfind', (self, part) => self.lastIndexOf(part)),
  index: finding('index', (self, part) => self.indexOf(part), true),
  rindex: finding('rindex', (self, part) => self.lastIndexOf(part), true),
  count: (self, args, budget) => {
    const [part] = ranged('count', args);
    const wanted = stringOf('count', part);
    budget.text(self.length);
    if (wanted === '') return BigInt(points(self).length + 1);
    return BigInt(self.split(wanted).length - 1);
  },
  isdigit: every('isdigit', /^\p{Nd}$/u, /\p{No}/u),
  isdecimal: every('isdecimal', /^\p{Nd}$/u),
  isnumeric: every('isnumeric', /^\p{N}$/u, /\p{Lo}/u),
  isalpha: every('isalpha', /^\p{L}$/u),
  isalnum: every('isalnum', /^[\p{L}\p{N}]$/u),
  isspace: plain('isspace', (self) => self !== '' && Array.from(self).every(isBlank)),
  isascii: plain('isascii', (self) => !/[^\0-\x7f]/.test(self)),
  isupper: plain('isupper', isUpper),
  islower: plain('islower', isLower),
  istitle: plain('istitle', (self) => /\p{L}/u.test(self) && title(self) === self),
  zfill: (self, args, budget) => {
    const [width] = required('zfill', args, ['width']);
    const missing = integerOf('zfill', width) - points(self).length;
    if (missing <= 0) return self;
    budget.text(missing + self.length);
    const sign = /^[-+]/.exec(self)?.[0] ?? '';
    return sign + '0'.repeat(missing) + self.slice(sign.length);
  },
  ljust: justified('ljust', () => 0),
  rjust: justified('rjust', (missing) => missing),
  center: justified('center', centred),
  format: (self, args, budget) => braceFormat(self, args, budget),
};

/** The blanks on the left of what is centred, by CPython's rule. */
export function centred(missing: number, width: number): number {
  return Math.floor(missing / 2) + (missing & width & 1);
}

function none(name: string, args: Arguments, give: () => Value): Value {
  take(name, args, []);
  return give();
}

function required(name: string, args: Arguments, names: string[], optional: string[] = []): Value[] {
  const values = take(name, args, [...names, ...optional]);
  if (names.some((_, i) => values[i] === undefined))
    throw new UserError(`the template gives ${name} too few arguments`);
  return values as Value[];
}

function plain(name: string, of: (self: string) => Value): Method<string> {
  return (self, args, budget) => {
    budget.text(self.length);
    return none(name, args, () => of(self));
  };
}

function stripping(left: boolean, right: boolean): Method<string> {
  return (self, args, budget) => {
    const [characters] = take('strip', args, ['chars']);
    const set = characters === undefined || characters === null ? undefined : stringOf('strip', characters);
    budget.text(self.length + (set?.length ?? 0));
    return strip(self, set, left, right);
  };
}

/** All characters match, and there is one; those of `unsure` Python decides by a table of its own. */
function every(name: string, pattern: RegExp, unsure?: RegExp): Method<string> {
  return plain(name, (self) => {
    if (unsure?.test(self))
      throw new UserError(
        `the template asks ${name} of ${JSON.stringify(self.slice(0, 20))}, which is not supported`,
      );
    return self !== '' && Array.from(self).every((character) => pattern.test(character));
  });
}

function texts(parts: string[], budget: Budget): List {
  budget.step(parts.length);
  return new List(parts);
}

function splitBy(text: string, by: string, times: number): string[] {
  if (by === '') throw new UserError('the template splits by an empty separator');
  const parts = text.split(by);
  if (times < 0 || parts.length <= times + 1) return parts;
  const head = parts.slice(0, times);
  const length = head.reduce((sum, part) => sum + part.length + by.length, 0);
  return [...head, text.slice(length)];
}

function splitFromEnd(text: string, by: string, times: number): string[] {
  if (by === '') throw new UserError('the template splits by an empty separator');
  const parts: string[] = [];
  let end = text.length;
  while (parts.length < times) {
    const at = end < by.length ? -1 : text.lastIndexOf(by, end - by.length);
    if (at === -1) break;
    parts.unshift(text.slice(at + by.length, end));
    end = at;
  }
  return [text.slice(0, end), ...parts];
}

/** str.replace(); all when `count` is negative. */
export function replace(text: string, old: string, new_: string, count: number, budget: Budget): string {
  budget.text(text.length);
  if (count === 0) return text;
  const all = old === '' ? ['', ...points(text), ''] : text.split(old);
  if (all.length === 1) return text;
  budget.step(all.length);
  const times = count < 0 ? all.length - 1 : Math.min(count, all.length - 1);
  const tail = all.slice(times);
  budget.text(text.length + times * new_.length);
  return all.slice(0, times).concat(tail.join(old)).join(new_);
}

function separatorOf(name: string, args: Arguments, empty = false): string {
  const [value] = required(name, args, ['sep']);
  const text = stringOf(name, value);
  if (text === '' && !empty) throw new UserError('the template splits by an empty separator');
  return text;
}

/** The arguments of a method that may also be told where to begin and end: that is not supported. */
function ranged(name: string, args: Arguments): Value[] {
  const [value, start, end] = required(name, args, ['sub'], ['start', 'end']);
  if ((start ?? null) !== null || (end ?? null) !== null) {
    throw new UserError(`the template uses ${name} with a start or an end, which is not supported`);
  }
  return [value];
}

function affix(name: string, has: (self: string, part: string) => boolean): Method<string> {
  return (self, args, budget) => {
    const [part] = ranged(name, args);
    budget.text(self.length);
    const parts = part instanceof Tuple ? part.items : [part];
    return parts.some((each) => has(self, stringOf(name, each)));
  };
}

function finding(name: string, find: (self: string, part: string) => number, must = false): Method<string> {
  return (self, args, budget) => {
    const [part] = ranged(name, args);
    budget.text(self.length);
    const at = find(self, stringOf(name, part));
    if (at === -1 && must)
      throw new UserError(`the template asks for the ${name} of what is not in the string`);
    return BigInt(hasSurrogates(self) && at > 0 ? Array.from(self.slice(0, at)).length : at);
  };
}

function justified(name: string, left: (missing: number, width: number) => number): Method<string> {
  return (self, args, budget) => {
    const [width, fill = ' '] = required(name, args, ['width'], ['fillchar']);
    const wide = integerOf(name, width);
    const with_ = stringOf(name, fill);
    if (points(with_).length !== 1) throw new UserError(`the template fills by ${JSON.stringify(with_)}`);
    budget.text(self.length);
    const missing = wide - points(self).length;
    if (missing <= 0) return self;
    budget.text((missing + self.length) * with_.length);
    const before = left(missing, wide);
    return with_.repeat(before) + self + with_.repeat(missing - before);
  };
}
