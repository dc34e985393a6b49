/** The values of @huggingface/jinja's interpreter as Python sees them. */
import { UserError } from '../base/errors.js';
import { floatText, quoted } from './pythonText.js';

// The package's declarations do not resolve under NodeNext: this is the part of its values used here.
export interface Value {
  readonly type: string;
  readonly value: unknown;
}

export const isString = (value: Value): value is Value & { value: string } => value.type === 'StringValue';
export const isNumber = (value: Value): value is Value & { value: number | boolean } =>
  ['IntegerValue', 'FloatValue', 'BooleanValue'].includes(value.type);
export const isList = (value: Value): value is Value & { value: Value[] } =>
  value.type === 'ArrayValue' || value.type === 'TupleValue';

/** Something undefined is as good as empty. */
export const ITERABLES = new Set('StringValue ArrayValue TupleValue ObjectValue UndefinedValue'.split(' '));

const PYTHON_TYPES: Record<string, string> = {
  StringValue: 'a string',
  IntegerValue: 'an integer',
  FloatValue: 'a float',
  BooleanValue: 'a bool',
  NullValue: 'None',
  UndefinedValue: 'something undefined',
  ArrayValue: 'a list',
  TupleValue: 'a tuple',
  ObjectValue: 'a dict',
};

export function typeOf(value: Value): string {
  return PYTHON_TYPES[value.type] ?? 'a function';
}

/** Python's str(). */
export function pythonStr(value: Value): string {
  switch (value.type) {
    case 'StringValue':
      return String(value.value);
    case 'UndefinedValue':
      return '';
    default:
      return pythonRepr(value);
  }
}

/** Python's repr(). */
function pythonRepr(value: Value): string {
  const list = () => (value.value as Value[]).map(pythonRepr);
  switch (value.type) {
    case 'StringValue':
      return quoted(String(value.value));
    case 'IntegerValue':
      return value.toString();
    case 'FloatValue':
      return floatText(value.value as number);
    case 'BooleanValue':
      return value.value ? 'True' : 'False';
    case 'NullValue':
      return 'None';
    case 'ArrayValue':
      return `[${list().join(', ')}]`;
    case 'TupleValue':
      return list().length === 1 ? `(${list()[0]},)` : `(${list().join(', ')})`;
    case 'ObjectValue': {
      const entries = [...(value.value as Map<string, Value>)];
      return `{${entries.map(([key, item]) => `${quoted(key)}: ${pythonRepr(item)}`).join(', ')}}`;
    }
    default:
      throw new UserError(`the template prints ${typeOf(value)}, which is not supported`);
  }
}

/** Python's `==`. */
export function pythonEquals(a: Value, b: Value): boolean {
  if (isNumber(a) && isNumber(b)) return Number(a.value) === Number(b.value);
  if (isList(a) && isList(b)) {
    return (
      a.type === b.type &&
      a.value.length === b.value.length &&
      a.value.every((item, i) => pythonEquals(item, b.value[i]))
    );
  }
  if (a.value instanceof Map && b.value instanceof Map) {
    const [one, other] = [a.value, b.value] as Map<string, Value>[];
    const equal = ([key, item]: [string, Value]) => other.has(key) && pythonEquals(item, other.get(key)!);
    return one.size === other.size && [...one].every(equal);
  }
  return a.type === b.type && a.value === b.value;
}
