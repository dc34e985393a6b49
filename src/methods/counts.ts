/** How many numbers a method trains, and how many it leaves in a file. */
import { sizeOf } from '../base/tensor.js';
import { type Outline, parameterCount } from '../models/shape.js';
import type { Method, Trainable } from './method.js';

/** Number of parameters that train. */
export function trainableCount(trainables: readonly Trainable[]): number {
  return trainables.reduce((n, t) => n + (t.requiresGrad === false ? 0 : sizeOf(t.shape)), 0);
}

/** Parameters of a whole model, and those that train on it. */
export function parameterCounts(model: Outline, trainables: readonly Trainable[] = []) {
  return { total: parameterCount(model), trainable: trainableCount(trainables) };
}

/** Whether a method's result is a whole model, and no adapter. */
export function leavesModel({ toPeft, folder }: Pick<Method<never>, 'toPeft' | 'folder'>): boolean {
  return !toPeft && !folder;
}

/**
 * Numbers in the file that a method's result is saved as: its adapter, or the whole model where it has none. What training
 * takes away (AdaLoRA's pruned ranks) is counted, since nobody knows it before.
 */
export function savedCount<C>(
  method: Method<C>,
  config: C,
  trainables: readonly Trainable[],
  model: Outline,
): number {
  if (leavesModel(method)) return parameterCount(model);
  if (method.prefix && model.cache) {
    // What a network gave, not the network.
    const { layers, kvHeads, headDim } = model.cache;
    return method.prefix.length(config) * 2 * layers * kvHeads * headDim;
  }
  return trainables.reduce((n, t) => n + sizeOf(t.shape), 0);
}
