import { nearest, UserError } from '../base/errors.js';
import { adalora } from './adalora.js';
import { alora } from './alora.js';
import { bitfit } from './bitfit.js';
import { dora } from './dora.js';
import { full } from './full.js';
import { hira } from './hira.js';
import { houlsby } from './houlsby.js';
import { lin } from './lin.js';
import { loftq } from './loftq.js';
import { lora } from './lora.js';
import { lorafa } from './lorafa.js';
import { loraplus } from './loraplus.js';
import type { Method } from './method.js';
import { miss } from './miss.js';
import { olora } from './olora.js';
import { pfeiffer } from './pfeiffer.js';
import { pissa } from './pissa.js';
import { prefix } from './prefix.js';
import { probe } from './probe.js';
import { prompt } from './prompt.js';
import { vera } from './vera.js';

/** Every method. The command line, the docs and the conformance suite read this table. */
export const methods = {
  lora,
  loraplus,
  lorafa,
  dora,
  alora,
  pissa,
  olora,
  loftq,
  adalora,
  vera,
  miss,
  hira,
  bitfit,
  full,
  probe,
  houlsby,
  lin,
  pfeiffer,
  prefix,
  prompt,
};

export type MethodName = keyof typeof methods;

/** The methods of the table, where it does not matter which is which. */
export const allMethods: readonly Method<unknown>[] = Object.values(methods);

/** loraAlpha as lora_alpha. */
type SnakeCase<S extends string> = S extends `${infer Head}${infer Tail}`
  ? `${Head extends Lowercase<Head> ? Head : `_${Lowercase<Head>}`}${SnakeCase<Tail>}`
  : S;
type BothCases<C> = Partial<C> | Partial<{ [K in keyof C & string as SnakeCase<K>]: C[K] }>;

/** What configures a method: its own keys in camelCase or in PEFT's snake_case, each with a default. */
export type MethodConfig<M extends MethodName> =
  (typeof methods)[M] extends Method<infer C> ? BothCases<C> : never;

/** The method of that name. Throws UserError that lists the methods otherwise. */
export function methodNamed(name: string): Method<unknown> {
  if (Object.hasOwn(methods, name)) return methods[name as MethodName];
  const names = Object.keys(methods);
  const guess = nearest(name, names);
  throw new UserError(
    `method "${name}" is unknown, expected one of ${names.join(', ')}${guess ? ` (did you mean "${guess}"?)` : ''}`,
  );
}
