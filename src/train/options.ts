import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';
import { schedules } from './schedule.js';

/** Hyper-parameters of a run. Config files may spell them in snake_case. */
export const trainSchema = z.strictObject({
  /** Passes over the data; ignored where maxSteps is given. */
  epochs: z.number().positive().default(1),
  /** Optimizer steps. */
  maxSteps: z.int().positive().optional(),
  /** Rows an optimizer step sees, times gradientAccumulationSteps. */
  batchSize: z.int().positive().default(8),
  gradientAccumulationSteps: z.int().positive().default(1),
  learningRate: z.number().positive().default(2e-4),
  schedule: z.enum(schedules).default('linear'),
  /** Updates over which the learning rate rises from 0; or its share of all updates. */
  warmupSteps: z.int().nonnegative().optional(),
  warmupRatio: z.number().min(0).max(1).default(0),
  weightDecay: z.number().min(0).default(0),
  adamBeta1: z.number().min(0).lt(1).default(0.9),
  adamBeta2: z.number().min(0).lt(1).default(0.999),
  adamEpsilon: z.number().positive().default(1e-8),
  /** Gradients are clipped to this global norm; 0 turns that off. */
  maxGradNorm: z.number().min(0).default(1),
  seed: z.int().nonnegative().default(0),
  /** Tokens, padding included, that the engine computes at once; more takes more memory, not less time. */
  microBatchTokens: z.int().positive().default(512),
  /** Rows of like length are put into the same batch, out of a shuffled window. */
  groupByLength: z.boolean().default(true),
  /** Evaluate each N steps (and at the end) where there is evaluation data; 0: only at the end. */
  evalSteps: z.int().nonnegative().default(0),
  /** Save a checkpoint each N steps; 0: only when stopped. */
  saveSteps: z.int().nonnegative().default(0),
  /** Checkpoints kept; older ones go. */
  saveTotalLimit: z.int().positive().default(2),
});

export type TrainOptions = z.output<typeof trainSchema>;
export type TrainInput = z.input<typeof trainSchema>;

/** Checks hyper-parameters and fills in defaults. Throws UserError prefixed with `place`. */
export function parseTrainOptions(place: string, options: unknown): TrainOptions {
  return checkJson(place, options, trainSchema);
}
