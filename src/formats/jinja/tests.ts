/** jinja2's tests: `x is defined`, `x is in y`. */
import { UserError } from '../../base/errors.js';
import { stringOf, take } from './arguments.js';
import type { Budget } from './budget.js';
import { arithmetic, compare, contains, equals } from './operations.js';
import { isIterable, pythonStr } from './print.js';
import { isLower, isUpper } from './text.js';
import {
  type Arguments,
  Callable,
  Dict,
  isInteger,
  isNumber,
  List,
  Loop,
  Markup,
  Range,
  Tuple,
  Undefined,
  type Value,
} from './values.js';

type Test = (value: Value, argument: Value, budget: Budget) => boolean;

/** The tests of one value. */
const UNARY: Record<string, (value: Value, budget: Budget) => boolean> = {
  defined: (value) => !(value instanceof Undefined),
  undefined: (value) => value instanceof Undefined,
  none: (value) => value === null,
  boolean: (value) => typeof value === 'boolean',
  true: (value) => value === true,
  false: (value) => value === false,
  integer: (value) => typeof value === 'bigint',
  float: (value) => typeof value === 'number',
  number: isNumber,
  string: (value) => typeof value === 'string' || value instanceof Markup,
  mapping: (value) => value instanceof Dict,
  sequence: (value) =>
    typeof value === 'string' ||
    value instanceof List ||
    value instanceof Tuple ||
    value instanceof Dict ||
    value instanceof Range ||
    value instanceof Undefined ||
    value instanceof Markup,
  iterable: isIterable,
  callable: (value) => value instanceof Callable || (value instanceof Loop && value.recurse !== undefined),
  escaped: (value) => value instanceof Markup,
  odd: (value, budget) => equals(arithmetic('%', value, 2n, budget), 1n, budget),
  even: (value, budget) => equals(arithmetic('%', value, 2n, budget), 0n, budget),
  lower: (value, budget) => isLower(pythonStr(value, budget)),
  upper: (value, budget) => isUpper(pythonStr(value, budget)),
};

const equal: Test = (value, other, budget) => equals(value, other, budget);
const ordered =
  (operator: '<' | '<=' | '>' | '>='): Test =>
  (value, other, budget) =>
    compare(operator, value, other, budget);

/** The tests of a value by another. */
const BINARY: Record<string, Test> = {
  divisibleby: (value, by, budget) => equals(arithmetic('%', value, by, budget), 0n, budget),
  eq: equal,
  equalto: equal,
  '==': equal,
  ne: (value, other, budget) => !equals(value, other, budget),
  '!=': (value, other, budget) => !equals(value, other, budget),
  lt: ordered('<'),
  lessthan: ordered('<'),
  '<': ordered('<'),
  le: ordered('<='),
  '<=': ordered('<='),
  gt: ordered('>'),
  greaterthan: ordered('>'),
  '>': ordered('>'),
  ge: ordered('>='),
  '>=': ordered('>='),
  in: (value, container, budget) => contains(container, value, budget),
  sameas: (value, other) => {
    const single = (one: Value) => one === null || typeof one === 'boolean';
    if (single(value) || single(other)) return value === other;
    if (typeof value === 'object' && typeof other === 'object') return value === other;
    throw new UserError(
      'the template asks whether two texts or numbers are the same object, which is not supported',
    );
  },
};

/** @throws UserError where there is no such test, or it is given what it does not take. */
export function runTest(name: string, value: Value, args: Arguments, budget: Budget): boolean {
  budget.step();
  if (typeof value === 'string') budget.text(value.length);
  if (Object.hasOwn(UNARY, name)) {
    take(name, args, []);
    return UNARY[name](value, budget);
  }
  if (Object.hasOwn(BINARY, name)) {
    const [argument] = take(name, args, ['other']);
    if (argument === undefined) throw new UserError(`the template gives the test ${name} nothing to test by`);
    if (name === 'divisibleby' && !isInteger(argument) && !isNumber(argument)) stringOf(name, argument);
    return BINARY[name](value, argument, budget);
  }
  throw new UserError(`the template uses the test ${name}, which is not supported`);
}

/** Whether there is a test of that name. */
export function isTest(name: string): boolean {
  return Object.hasOwn(UNARY, name) || Object.hasOwn(BINARY, name);
}
