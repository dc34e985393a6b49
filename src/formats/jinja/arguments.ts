/** How functions that templates call take their arguments. */
import { UserError } from '../../base/errors.js';
import { type Arguments, isInteger, typeOf, Undefined, type Value } from './values.js';

/**
 * The values of the parameters `names`, given by position or by name; undefined for those that were not given.
 * @throws UserError for others, and for more.
 */
export function take(
  function_: string,
  { positional, named }: Arguments,
  names: readonly string[],
): (Value | undefined)[] {
  if (positional.length > names.length) {
    throw new UserError(
      `the template gives ${function_} ${positional.length} arguments, of which it takes ${names.length}`,
    );
  }
  const values: (Value | undefined)[] = names.map((_, i) => positional[i]);
  for (const [name, value] of named) {
    const at = names.indexOf(name);
    if (at === -1)
      throw new UserError(`the template gives ${function_} the argument ${name}, which it does not take`);
    if (at < positional.length)
      throw new UserError(`the template gives ${function_} the argument ${name} twice`);
    values[at] = value;
  }
  return values;
}

export function stringOf(function_: string, value: Value | undefined): string {
  if (typeof value === 'string') return value;
  if (value instanceof Undefined) value.fail();
  throw new UserError(
    value === undefined
      ? `the template gives ${function_} too few arguments`
      : `the template gives ${function_} ${typeOf(value)} for a string`,
  );
}

/** A JavaScript integer, kept within what no text or list reaches. */
export function integerOf(function_: string, value: Value | undefined): number {
  if (value !== undefined && isInteger(value)) return Math.max(-2e9, Math.min(2e9, Number(value)));
  if (value instanceof Undefined) value.fail();
  throw new UserError(
    value === undefined
      ? `the template gives ${function_} too few arguments`
      : `the template gives ${function_} ${typeOf(value)} for an integer`,
  );
}
