import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { checkJson } from '../../formats/io/json.js';
import type { BaseModel } from '../../models/base.js';
import type { Forms } from '../data/form.js';
import type { Objective } from '../objective.js';
import { causalLm } from './causalLm.js';
import { dpo } from './dpo.js';
import { objectiveOf } from './index.js';
import { orpo } from './orpo.js';
import type { ObjectiveSpec } from './spec.js';

/** Objectives that may be asked for by name. */
const named = {
  'causal-lm': { name: 'causal-lm', options: z.strictObject({}), make: () => causalLm },
  dpo,
  orpo,
};
export type ObjectiveName = keyof typeof named;
const names = Object.keys(named) as [ObjectiveName, ...ObjectiveName[]];
const specOf = (name: ObjectiveName): ObjectiveSpec => named[name] as ObjectiveSpec;

/** The options of all of them; of those that share a name the first tells what it is. */
export const objectiveShape = {
  objective: z
    .enum(names)
    .optional()
    .describe(
      'what training is for: next tokens, or answers that are preferred to others (default: what the model is for)',
    ),
  ...orpo.options.shape,
  ...dpo.options.shape,
};
export type ObjectiveInput = z.input<z.ZodObject<typeof objectiveShape>>;

/** What was asked for: a name, and its options with their defaults written out. */
export interface AskedObjective {
  name: ObjectiveName;
  options: object;
}

/**
 * Reads what is asked for out of options; undefined where nothing is. Throws UserError that begins with `place` where one is
 * wrong, and one where an option is for another objective or does not go with the others.
 */
export function parseObjective(
  place: string,
  given: Readonly<Partial<Record<keyof ObjectiveInput, unknown>>>,
): AskedObjective | undefined {
  checkJson(place, given, z.object(objectiveShape));
  const name = given.objective as ObjectiveName | undefined;
  const own = name === undefined ? {} : specOf(name).options.shape;
  const keys = Object.keys(objectiveShape) as (keyof ObjectiveInput)[];
  const options = keys.filter((key) => key !== 'objective' && given[key] !== undefined);
  const stray = options.find((key) => !(key in own));
  if (stray !== undefined) {
    const users = names.filter((other) => stray in specOf(other).options.shape);
    throw new UserError(
      `the option "${stray}" is for objective ${users.join(' or ')}${name ? `, not ${name}` : ''}`,
    );
  }
  if (name === undefined) return undefined;
  const spec = specOf(name);
  const parsed = spec.options.parse(Object.fromEntries(options.map((key) => [key, given[key]])));
  // What does not go together is told before a model is loaded.
  spec.make(parsed);
  return { name, options: parsed };
}

/** What was asked for as options again: parseObjective's inverse. */
export function flatObjective(asked: AskedObjective | undefined): ObjectiveInput {
  return asked ? { objective: asked.name, ...asked.options } : {};
}

/** The objective that was asked for, or else what a model is for. Throws UserError where the model is not made for it. */
export function objectiveFor(
  model: Pick<BaseModel, 'network' | 'config'>,
  asked: AskedObjective | undefined,
): Objective {
  if (!asked) return objectiveOf(model);
  const { network, config } = model;
  if (!network.lmHead || config.task) {
    const what = config.task ? `for ${config.task.kind}` : `${config.modelType}, an encoder`;
    throw new UserError(
      `objective ${asked.name} is for a model that predicts next tokens; this one is ${what}`,
    );
  }
  return specOf(asked.name).make(asked.options);
}

/** The forms of the rows that an objective reads; undefined where nobody has that name. */
export function formsOf(name: unknown): Forms | undefined {
  const spec = names.find((known) => known === name);
  return spec && specOf(spec).make(specOf(spec).options.parse({})).reading.forms;
}
