/** An adapter that was read, to be trained further: by which method, and with which of its options otherwise. */

import { isDeepStrictEqual } from 'node:util';
import { UserError } from '../base/errors.js';
import { camelCase, kebabCase, snakeCase } from '../base/names.js';
import type { Adapter } from '../methods/adapter.js';
import { isCarried, resized } from '../methods/carried.js';
import { trainablesOf } from '../methods/head.js';
import { type MethodName, methodNamed } from '../methods/index.js';
import type { Method, Trainable } from '../methods/method.js';
import type { BaseModel } from '../models/base.js';

export interface FurtherTraining {
  /** The adapter's own, or one that trains the same tensors, as loraplus those of lora. */
  method?: MethodName;
  /** Options of the method. Those of training may differ from the adapter's, as dropout; others have to be as it has them. */
  config?: object;
}

/** What changes how an adapter trains, not what it computes. */
const OF_TRAINING = [
  ...['loraDropout', 'veraDropout', 'missDropout', 'hiraDropout', 'loraplusLrRatio', 'loraplusLrEmbedding'],
  ...['tinit', 'tfinal', 'deltaT', 'totalStep', 'beta1', 'beta2', 'orthRegWeight'],
];
/** What names sites: compared by those that it comes to. */
const OF_TARGETS = ['targetModules', 'excludeModules', 'layersToTransform', 'layersPattern'];

/**
 * The adapter as it is trained further; shares its values. `place` names it. Throws UserError for a method or an option
 * that it contradicts.
 */
export function trainedFurther(
  place: string,
  adapter: Adapter,
  base: BaseModel,
  { method: name = adapter.method.name as MethodName, config: given = {} }: FurtherTraining,
): Adapter {
  const asked = Object.fromEntries(Object.entries(given).map(([key, value]) => [camelCase(key), value]));
  if (name === adapter.method.name && Object.keys(asked).length === 0) return adapter;
  const method = methodNamed(name);
  const known = Object.keys(method.options.shape).map(camelCase);
  const foreign = Object.keys(asked).find((key) => !known.includes(key));
  if (foreign)
    throw new UserError(`the option "${foreign}" is not for method ${name}, by which ${place} is trained`);
  const own = adapter.config as Record<string, unknown>;
  const targets = Object.keys(asked).some((key) => OF_TARGETS.includes(key));
  const kept = Object.fromEntries(
    Object.entries(own).filter(([key]) => known.includes(key) && !(targets && OF_TARGETS.includes(key))),
  );
  const what = `${name} configuration`;
  // What is no option of a method was read of the adapter's file.
  const read = Object.entries(own).filter(([key]) => !known.includes(key) && !OF_TARGETS.includes(key));
  const config = {
    ...Object.fromEntries(read),
    ...(method.parse(what, { ...kept, ...asked }) as Record<string, unknown>),
  };
  for (const key of Object.keys(asked)) {
    if (OF_TRAINING.includes(key) || OF_TARGETS.includes(key)) continue;
    if (isDeepStrictEqual(plain(config[key]), plain(own[key]))) continue;
    const has = own[key] === undefined ? 'none' : JSON.stringify(own[key]);
    throw new UserError(
      `${snakeCase(key)} ${JSON.stringify(config[key])} contradicts ${place}, which has ${has}: leave --${kebabCase(key)} out`,
    );
  }
  const carried = adapter.trainables.filter(isCarried);
  const trainables = [...carried, ...trainablesOf(method, config, resized(base, adapter.vocabSize))];
  const called = (by: Method<unknown>, as: unknown) => plain(by.invocation?.(as));
  const isCalledAlike = isDeepStrictEqual(called(method, config), called(adapter.method, own));
  if (!isCalledAlike || tensorsOf(trainables) !== tensorsOf(adapter.trainables)) {
    throw new UserError(
      targets
        ? `the targets given are not those of ${place}: leave them out`
        : `${place} is an adapter of method ${adapter.method.name}, which ${name} does not train: leave --method out`,
    );
  }
  return { ...adapter, method, config, trainables };
}

/** As JSON has it: absent and undefined are the same. */
const plain = (value: unknown): unknown => (value === undefined ? null : JSON.parse(JSON.stringify(value)));

function tensorsOf(trainables: readonly Trainable[]): string {
  return JSON.stringify(trainables.map(({ name, shape }) => `${name} ${shape}`).sort());
}
