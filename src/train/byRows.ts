import { UserError } from '../base/errors.js';
import type { Method } from '../methods/method.js';
import type { Objective } from './objective.js';
import { MAX_STEPS, type TrainOptions } from './options.js';

/** Peak learning rate of methods that name none. */
const LEARNING_RATE = 2e-4;

/** What teaches so few rows: passes over them, and at least so many steps, which for very few rows take more passes. */
const FEW_ROWS = 1000;
const FEW_ROWS_EPOCHS = 3;
const LEAST_STEPS = 20;
const MOST_EPOCHS = 10;

/** Options with a number of epochs and a learning rate. */
export type FilledOptions = TrainOptions & Required<Pick<TrainOptions, 'epochs' | 'learningRate'>>;

/** Fills in what depends on the number of rows, where it was not given: docs/defaults.md says why so. */
export function filledByRows(
  options: TrainOptions,
  rows: number,
  method: Pick<Method<never>, 'learningRate'>,
  { learningRateFactor = 1 }: Pick<Objective, 'learningRateFactor'> = {},
): FilledOptions {
  // In one order of keys, whether given or filled in: a resumed run has them from run.json.
  const { epochs, learningRate, ...others } = options;
  return {
    ...others,
    epochs: epochs ?? epochsFor(rows, options),
    learningRate: learningRate ?? learningRateFactor * (method.learningRate?.(rows) ?? LEARNING_RATE),
  };
}

function epochsFor(rows: number, options: TrainOptions): number {
  if (rows > FEW_ROWS) return 1;
  const least = Math.ceil(LEAST_STEPS / stepsPerEpoch(rows, options));
  return Math.max(FEW_ROWS_EPOCHS, Math.min(MOST_EPOCHS, least));
}

/** Optimizer steps of a pass over the rows. */
export function stepsPerEpoch(
  rows: number,
  { batchSize, gradientAccumulationSteps }: Pick<TrainOptions, 'batchSize' | 'gradientAccumulationSteps'>,
): number {
  return Math.ceil(rows / (batchSize * gradientAccumulationSteps));
}

/** Optimizer steps of a run. Throws UserError where they are more than a run may have. */
export function stepsOf(rows: number, options: FilledOptions): number {
  const steps = options.maxSteps ?? Math.max(1, Math.round(stepsPerEpoch(rows, options) * options.epochs));
  if (steps <= MAX_STEPS) return steps;
  throw new UserError(
    `${options.epochs} epochs of ${rows} examples are ${steps} steps; a run has at most ${MAX_STEPS}`,
  );
}
