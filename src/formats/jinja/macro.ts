/** What a macro's parameters are in one call. */
import { UserError } from '../../base/errors.js';
import type { Expression, Signature } from './ast.js';
import type { Scope } from './scope.js';
import { quoted } from './text.js';
import { type Arguments, Dict, orElse, Tuple, Undefined, type Value } from './values.js';

/** Sets in `inner` the names that the macro's body has; `compute` computes a default there. */
export function bindParameters(
  name: string,
  { parameters, uses }: Signature,
  { positional, named }: Arguments,
  inner: Scope,
  compute: (otherwise: Expression) => Value,
): void {
  const rest = new Map(named);
  const missing: (typeof parameters)[number][] = [];
  for (const [i, parameter] of parameters.entries()) {
    const given = i < positional.length ? positional[i] : rest.get(parameter.name);
    if (i >= positional.length) rest.delete(parameter.name);
    if (given === undefined) missing.push(parameter);
    else inner.set(parameter.name, given);
  }
  if (uses.has('caller')) {
    inner.set('caller', orElse(rest.get('caller'), new Undefined('No caller defined')));
    rest.delete('caller');
  }
  if (uses.has('kwargs')) inner.set('kwargs', new Dict(rest));
  else if (rest.size > 0) {
    throw new UserError(
      `the template gives its macro ${name} the argument ${[...rest.keys()][0]}, which it does not take`,
    );
  }
  const more = positional.slice(parameters.length);
  if (uses.has('varargs')) inner.set('varargs', new Tuple(more));
  else if (more.length > 0) {
    throw new UserError(`the template gives its macro ${name} more than ${parameters.length} arguments`);
  }
  for (const parameter of missing) {
    // A parameter is not its own default, nor is that of a later one.
    const absent = new Undefined(`parameter ${quoted(parameter.name)} was not provided`);
    inner.set(parameter.name, absent);
  }
  for (const { name: parameter, otherwise } of missing) {
    if (otherwise) inner.set(parameter, compute(otherwise));
  }
}
