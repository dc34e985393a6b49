/** jinja2's filters of lists and what else can be looped over. */
import { UserError } from '../../base/errors.js';
import { integerOf, stringOf, take } from './arguments.js';
import type { Budget } from './budget.js';
import { type Filter, type FilterContext, lowered } from './filter.js';
import { arithmetic, equals, order, sorted } from './operations.js';
import { itemsOf, joined, pythonStr } from './print.js';
import {
  type Arguments,
  Dict,
  DictView,
  Iterator,
  List,
  orElse,
  pointAt,
  points,
  Range,
  Tuple,
  truthy,
  Undefined,
  type Value,
} from './values.js';

export const LIST_FILTERS: Record<string, Filter> = {
  batch: (value, args, { budget }) => {
    const [count, fill = null] = take('batch', args, ['linecount', 'fill_with']);
    const size = integerOf('batch', count);
    if (size < 1) throw new UserError('the template makes batches of nothing');
    const items = itemsOf(value, budget);
    const batches: Value[] = [];
    for (let at = 0; at < items.length; at += size) {
      const batch = items.slice(at, at + size);
      const missing = fill === null ? 0 : size - batch.length;
      budget.step(missing);
      batches.push(new List(batch.concat(Array.from({ length: missing }, () => fill))));
    }
    return new Iterator(batches);
  },
  first: (value, args, { budget }) => {
    take('first', args, []);
    const empty = new Undefined('No first item, sequence was empty.');
    if (value instanceof Iterator) return orElse(value.take(), empty);
    if (typeof value === 'string') return value === '' ? empty : String.fromCodePoint(value.codePointAt(0)!);
    return orElse(itemsOf(value, budget)[0], empty);
  },
  last: (value, args, { budget }) => {
    take('last', args, []);
    const empty = new Undefined('No last item, sequence was empty.');
    if (value instanceof Iterator) throw new UserError('the template asks for the last of a generator');
    if (typeof value === 'string') {
      budget.text(value.length);
      return pointAt(value, -1) ?? empty;
    }
    return orElse(itemsOf(value, budget).at(-1), empty);
  },
  groupby: (value, args, context) => {
    const [attribute, fallback = null, caseSensitive = false] = take('groupby', args, [
      'attribute',
      'default',
      'case_sensitive',
    ]);
    const { budget } = context;
    const raw = getter(attribute, context, fallback === null ? undefined : fallback);
    const keyOf = truthy(caseSensitive) ? raw : (item: Value) => lowered(raw(item));
    const groups: { key: Value; items: Value[] }[] = [];
    for (const item of sorted(itemsOf(value, budget), keyOf, false, budget)) {
      const key = keyOf(item);
      const latest = groups.at(-1);
      if (latest && equals(latest.key, key, budget)) latest.items.push(item);
      else groups.push({ key, items: [item] });
    }
    return new List(
      groups.map(
        ({ key, items }) =>
          new Tuple([truthy(caseSensitive) ? key : raw(items[0]), new List(items)], ['grouper', 'list']),
      ),
    );
  },
  join: (value, args, context) => {
    const [separator = '', attribute = null] = take('join', args, ['d', 'attribute']);
    const { budget } = context;
    const keyOf = attribute === null ? undefined : getter(attribute, context);
    const items = itemsOf(value, budget, 'joins');
    const parts = items.map((item) => pythonStr(keyOf ? keyOf(item) : item, budget));
    return joined(parts, pythonStr(separator, budget), budget);
  },
  list: (value, args, { budget }) => {
    take('list', args, []);
    return new List(itemsOf(value, budget));
  },
  map: (value, { positional, named }, context) => {
    if (!truthy(value)) return new Iterator([]);
    const items = itemsOf(value, context.budget);
    if (positional.length === 0 && named.has('attribute')) {
      const [attribute, fallback] = take('map', { positional, named }, ['attribute', 'default']);
      const get = getter(attribute, context, fallback === null ? undefined : fallback);
      return new Iterator(items.map(get));
    }
    const [name, ...rest] = positional;
    const filter = stringOf('map', name);
    return new Iterator(items.map((item) => context.filter(filter, item, { positional: rest, named })));
  },
  max: extreme('max', (a, b, budget) => order(a, b, budget) > 0),
  min: extreme('min', (a, b, budget) => order(a, b, budget) < 0),
  reject: picking(false, false),
  rejectattr: picking(true, false),
  select: picking(false, true),
  selectattr: picking(true, true),
  reverse: (value, args, { budget }) => {
    take('reverse', args, []);
    if (typeof value === 'string') {
      budget.step(value.length);
      return Array.from(points(value)).reverse().join('');
    }
    const items = [...itemsOf(value, budget, 'reverses')].reverse();
    return value instanceof List ||
      value instanceof Tuple ||
      value instanceof Range ||
      value instanceof Dict ||
      value instanceof DictView ||
      value instanceof Undefined
      ? new Iterator(items)
      : new List(items);
  },
  slice: (value, args, { budget }) => {
    const [many, fill = null] = take('slice', args, ['slices', 'fill_with']);
    const count = integerOf('slice', many);
    if (count < 1) throw new UserError('the template cuts into no slices');
    const items = itemsOf(value, budget);
    budget.step(count);
    const [each, longer] = [Math.floor(items.length / count), items.length % count];
    const slices: Value[] = [];
    for (let i = 0, at = 0; i < count; i++) {
      const size = each + (i < longer ? 1 : 0);
      const slice = items.slice(at, at + size);
      at += size;
      slices.push(new List(fill !== null && i >= longer ? [...slice, fill] : slice));
    }
    return new Iterator(slices);
  },
  sort: (value, args, context) => {
    const [reverse = false, caseSensitive = false, attribute = null] = take('sort', args, [
      'reverse',
      'case_sensitive',
      'attribute',
    ]);
    const names = typeof attribute === 'string' ? attribute.split(',') : [attribute];
    const getters = names.map((name) => getter(name, context));
    const fold = truthy(caseSensitive) ? (item: Value) => item : lowered;
    const keyOf = (item: Value) => new List(getters.map((get) => fold(get(item))));
    return new List(sorted(itemsOf(value, context.budget), keyOf, truthy(reverse), context.budget));
  },
  sum: (value, args, context) => {
    const [attribute = null, start = 0n] = take('sum', args, ['attribute', 'start']);
    const get = getter(attribute, context);
    if (typeof start === 'string') throw new UserError('the template sums strings');
    return itemsOf(value, context.budget).reduce<Value>(
      (sum, item) => arithmetic('+', sum, get(item), context.budget),
      start,
    );
  },
  unique: (value, args, context) => {
    const [caseSensitive = false, attribute = null] = take('unique', args, ['case_sensitive', 'attribute']);
    const get = getter(attribute, context);
    const seen = new Dict();
    const found = itemsOf(value, context.budget).filter((item) => {
      const key = truthy(caseSensitive) ? get(item) : lowered(get(item));
      if (typeof key === 'string') context.budget.text(key.length);
      if (seen.get(key) !== undefined) return false;
      seen.set(key, true);
      return true;
    });
    return new Iterator(found);
  },
};

/** jinja2's make_attrgetter: the item itself, or what lies along a path of names and numbers. */
function getter(
  attribute: Value | undefined,
  context: FilterContext,
  fallback?: Value,
): (item: Value) => Value {
  if (attribute === undefined) throw new UserError('the template gives a filter no attribute');
  if (attribute === null) return (item) => item;
  const parts: Value[] =
    typeof attribute === 'string'
      ? attribute.split('.').map((part) => (/^\d+$/.test(part) ? BigInt(part) : part))
      : [attribute];
  return (item) =>
    parts.reduce((object, part) => {
      const found = context.item(object, part);
      return found instanceof Undefined && fallback !== undefined ? fallback : found;
    }, item);
}

function extreme(name: string, better: (a: Value, b: Value, budget: Budget) => boolean): Filter {
  return (value, args, context) => {
    const [caseSensitive = false, attribute = null] = take(name, args, ['case_sensitive', 'attribute']);
    const get = getter(attribute, context);
    const keyOf = truthy(caseSensitive) ? get : (item: Value) => lowered(get(item));
    const items = itemsOf(value, context.budget);
    if (items.length === 0) return new Undefined('No aggregated item, sequence was empty.');
    let best = { item: items[0], key: keyOf(items[0]) };
    for (const item of items.slice(1)) {
      const key = keyOf(item);
      if (better(key, best.key, context.budget)) best = { item, key };
    }
    return best.item;
  };
}

/** select, reject and their likes for an attribute: by a test, or by whether it is true. */
function picking(byAttribute: boolean, keep: boolean): Filter {
  return (value, { positional, named }: Arguments, context) => {
    if (!truthy(value)) return new Iterator([]);
    const [attribute, rest] = byAttribute ? [positional[0], positional.slice(1)] : [null, positional];
    const get = getter(attribute, context);
    const [name, ...more] = rest;
    const passes = (item: Value): boolean => {
      if (name === undefined) return truthy(item);
      return context.test(stringOf('select', name), item, { positional: more, named });
    };
    return new Iterator(itemsOf(value, context.budget).filter((item) => passes(get(item)) === keep));
  };
}
