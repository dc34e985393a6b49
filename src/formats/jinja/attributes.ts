/** What `object.name` finds. */
import { UserError } from '../../base/errors.js';
import type { Budget } from './budget.js';
import { methodOf } from './methods.js';
import { equals } from './operations.js';
import { quoted } from './text.js';
import {
  Callable,
  isNumber,
  Loop,
  Markup,
  Namespace,
  orElse,
  Tuple,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

/** What an object has by a name: a method, or a field of a loop, a namespace or a named tuple. */
export function ownOf(object: Value, name: string, budget: Budget): Value | undefined {
  if (object instanceof Namespace) return object.values.get(name);
  if (object instanceof Loop) return ofLoop(object, name, budget);
  if (object instanceof Tuple && object.fields.includes(name))
    return object.items[object.fields.indexOf(name)];
  if (object instanceof Callable && object.parameters) {
    if (name === 'name') return object.name;
    if (name === 'arguments') return new Tuple([...object.parameters]);
  }
  if (object instanceof Markup || (object instanceof Callable && !object.parameters && name !== 'fromkeys')) {
    throw new UserError(`the template uses ${name} of ${typeOf(object)}, which is not supported`);
  }
  return methodOf(object, name, budget);
}

function ofLoop(loop: Loop, name: string, budget: Budget): Value | undefined {
  const { index, items } = loop;
  const beyond = (which: string) => new Undefined(`there is no ${which} item`);
  switch (name) {
    case 'index':
      return BigInt(index + 1);
    case 'index0':
      return BigInt(index);
    case 'revindex':
      return BigInt(items.items.length - index);
    case 'revindex0':
      return BigInt(items.items.length - index - 1);
    case 'first':
      return index === 0;
    case 'last':
      return !items.has(index + 1);
    case 'length':
      return BigInt(items.items.length);
    case 'depth':
      return BigInt(loop.depth);
    case 'depth0':
      return BigInt(loop.depth - 1);
    case 'previtem':
      return index === 0 ? beyond('previous') : orElse(items.at(index - 1), beyond('previous'));
    case 'nextitem':
      return orElse(items.at(index + 1), beyond('next'));
    case 'cycle':
      return new Callable('cycle', ({ positional, named }) => {
        if (positional.length === 0 || named.size > 0)
          throw new UserError('the template cycles through nothing');
        return positional[index % positional.length];
      });
    case 'changed':
      return new Callable('changed', ({ positional }) => {
        const { lastChanged } = loop;
        loop.lastChanged = positional;
        return !lastChanged || !equals(new Tuple(lastChanged), new Tuple(positional), budget);
      });
  }
  return undefined;
}

/** What stands for something that an object has not. */
export function missing(object: Value, key: Value): Undefined {
  if (typeof key === 'string')
    return new Undefined(`${typeOf(object)} has no attribute ${quoted(key.slice(0, 100))}`);
  return new Undefined(`${typeOf(object)} has no element at ${isNumber(key) ? String(key) : typeOf(key)}`);
}

/** A namespace holds no names that begin with an underscore, as in transformers. */
export function setOf(namespace: Namespace, name: string, value: Value): void {
  if (name.startsWith('_'))
    throw new UserError(`the template sets ${name} of a namespace, which is not allowed`);
  namespace.values.set(name, value);
}
