/** JavaScript's values, as JSON has them, to Python's. */
import { UserError } from '../../base/errors.js';
import { JsonFloat } from '../io/exactJson.js';
import { Dict, List, type Value } from './values.js';

const MAX_DEPTH = 200;

/**
 * A whole number and a bigint become an int, other numbers and JsonFloat a float, arrays lists; objects and Maps dicts
 * with their keys in order, without those that are undefined.
 */
export function pythonValue(value: unknown, depth = 0): Value {
  if (depth > MAX_DEPTH) throw new UserError('the template is given values that nest too deeply');
  if (
    value === null ||
    typeof value === 'string' ||
    typeof value === 'boolean' ||
    typeof value === 'bigint'
  ) {
    return value;
  }
  if (typeof value === 'number')
    return Number.isSafeInteger(value) && !Object.is(value, -0) ? BigInt(value) : value;
  if (value instanceof JsonFloat) return value.value;
  if (Array.isArray(value)) return new List(value.map((item) => pythonValue(item ?? null, depth + 1)));
  if (typeof value === 'object') {
    const dict = new Dict();
    for (const [key, item] of value instanceof Map ? value : Object.entries(value)) {
      if (item !== undefined) dict.set(String(key), pythonValue(item, depth + 1));
    }
    return dict;
  }
  throw new UserError(`the template is given a ${typeof value}, which is no JSON`);
}

/** How many values there are, and how many characters their texts have. */
export function sizeOf(value: unknown, depth = 0): { items: number; characters: number } {
  if (typeof value === 'string') return { items: 1, characters: value.length };
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return { items: 1, characters: 0 };
  let [items, characters] = [1, 0];
  for (const item of value instanceof Map ? value.values() : Object.values(value)) {
    const size = sizeOf(item, depth + 1);
    items += size.items;
    characters += size.characters;
  }
  return { items, characters };
}
