/** The table of methods: what each trains, what it costs, where its result goes. */
import { UserError } from '../base/errors.js';
import { sizeOf } from '../base/tensor.js';
import { trainableCount } from '../methods/counts.js';
import { type MethodName, methodNamed, methods } from '../methods/index.js';
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
  const total = [...model.parameters.values()].reduce((n, shape) => n + sizeOf(shape), 0);
  return methodRows().map((row) => {
    const method = methodNamed(row.name);
    try {
      const own = Object.entries(options).filter(([key]) => Object.hasOwn(method.options.shape, key));
      const config = method.parse(`${row.name} configuration`, Object.fromEntries(own));
      const parameters = trainableCount(method.select(config, model));
      return { ...row, trainable: { parameters, share: parameters / total } };
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      return { ...row, trainable: { refused: error.message } };
    }
  });
}
