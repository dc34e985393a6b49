/** The table of methods: what each trains, what it costs, where its result goes. */
import { countMethods } from '../analysis/plan/parameters.js';
import { UserError } from '../base/errors.js';
import { type MethodName, methods } from '../methods/index.js';
import type { MethodCard } from '../methods/method.js';
import { describe } from '../models/shape.js';
import { inspect } from './inspect.js';
import type { LocateOptions } from './locate.js';

export interface MethodRow extends MethodCard {
  name: MethodName;
}

/** Of one model: what a method would train with the options given, or why it cannot. */
export interface CountedMethodRow extends MethodRow {
  trainable: { parameters: number; share: number } | { refused: string };
}

/** A row for each method, in the table's order. */
export function methodRows(): MethodRow[] {
  return Object.entries(methods).map(([name, { card }]) => ({ name: name as MethodName, ...card }));
}

/**
 * The same with the parameters that each would train on a model (a folder, a GGUF file or a hub id). A method takes of
 * `options`, by PEFT's names, what is its own; the rest has its defaults. Throws UserError where there is no model.
 */
export async function countedMethodRows(
  path: string,
  options: Readonly<Record<string, unknown>> = {},
  locating: LocateOptions = {},
): Promise<CountedMethodRow[]> {
  const found = await inspect(path, locating);
  if (found.kind !== 'model') throw new UserError(`${path} is an adapter, expected a model`);
  return countedRows(describe(found.config), options);
}

/** As countedMethodRows, for a model by its shape alone. */
export function countedRows(
  model: ReturnType<typeof describe>,
  options: Readonly<Record<string, unknown>>,
): CountedMethodRow[] {
  const counts = new Map(countMethods(model, options).map((count) => [count.method, count]));
  return methodRows().map((row) => {
    const count = counts.get(row.name)!;
    if ('refused' in count) return { ...row, trainable: { refused: count.refused } };
    return { ...row, trainable: { parameters: count.trainable.value, share: count.share } };
  });
}
