/** What a filter is. */
import type { Budget } from './budget.js';
import type { Arguments, Value } from './values.js';

/** What a filter may ask of the interpreter. */
export interface FilterContext {
  readonly budget: Budget;
  filter(name: string, value: Value, args: Arguments): Value;
  test(name: string, value: Value, args: Arguments): boolean;
  /** `object[key]` as templates write it. */
  item(object: Value, key: Value): Value;
  /** `object.name` without `object['name']`. */
  attribute(object: Value, name: string): Value;
}

export type Filter = (value: Value, args: Arguments, context: FilterContext) => Value;

/** For comparisons that ignore case. */
export function lowered(value: Value): Value {
  return typeof value === 'string' ? value.toLowerCase() : value;
}
