import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import { schedules } from './schedule.js';

/** The most steps of a run: as many as the eight digits in a checkpoint's name count. */
export const MAX_STEPS = 99_999_999;

/** Hyper-parameters of a run. The command line makes its flags and their help from this. */
export const trainSchema = z.strictObject({
  epochs: z
    .number()
    .positive()
    .optional()
    .describe('passes over the data, unless the number of steps is given (default: by the number of rows)'),
  maxSteps: z.int().positive().max(MAX_STEPS).optional().describe('number of optimizer steps'),
  batchSize: z
    .int()
    .positive()
    .default(8)
    .describe('rows an optimizer step sees, times the accumulation steps'),
  gradientAccumulationSteps: z.int().positive().default(1).describe('batches whose gradients make one step'),
  learningRate: z
    .number()
    .positive()
    .optional()
    .describe('peak learning rate (default: by the method and the number of rows)'),
  schedule: z.enum(schedules).default('linear').describe('course of the learning rate after the warm-up'),
  warmupSteps: z.int().nonnegative().optional().describe('steps over which the learning rate rises from 0'),
  warmupRatio: z.number().min(0).max(1).default(0).describe('the same, as a share of all steps'),
  weightDecay: z.number().min(0).default(0).describe("AdamW's decoupled weight decay"),
  adamBeta1: z.number().min(0).lt(1).default(0.9).describe('decay of the first moment'),
  adamBeta2: z.number().min(0).lt(1).default(0.999).describe('decay of the second moment'),
  adamEpsilon: z.number().positive().default(1e-8).describe('added to the root of the second moment'),
  maxGradNorm: z.number().min(0).default(1).describe('clip gradients to this global norm; 0: do not'),
  seed: z.int().nonnegative().default(0).describe('of initial values, the order of rows and dropout'),
  microBatchTokens: z
    .int()
    .positive()
    .default(1024)
    .describe('tokens, padding included, computed at once; more takes more memory, not less time'),
  gradientCheckpointing: z
    .boolean()
    .default(false)
    .describe(
      'keep of each layer only its input, and compute the rest again going back: less memory, more time',
    ),
  checkpointedLayers: z
    .int()
    .positive()
    .optional()
    .describe('do so for this many of the first layers, and keep what the last ones need (default: all)'),
  groupByLength: z
    .boolean()
    .default(true)
    .describe('put rows of like length into the same batch, out of a shuffled window'),
  packing: z
    .boolean()
    .default(false)
    .describe(
      'put several short rows into one sequence, each seeing only itself: less padding, the same loss',
    ),
  evalSteps: z
    .int()
    .nonnegative()
    .default(0)
    .describe('evaluate each N steps besides the start and the end; 0: only those'),
  earlyStoppingPatience: z
    .int()
    .positive()
    .optional()
    .describe('end the run after so many evaluations in a row without a better held-out loss'),
  earlyStoppingThreshold: z
    .number()
    .min(0)
    .default(0)
    .describe('how much lower a held-out loss must be to count as better for that'),
  saveSteps: z
    .int()
    .nonnegative()
    .default(100)
    .describe('save a checkpoint each N steps; 0: only when stopped'),
  saveTotalLimit: z.int().positive().default(2).describe('checkpoints kept; older ones go'),
});

export type TrainOptions = z.output<typeof trainSchema>;
export type TrainInput = z.input<typeof trainSchema>;

/** Checks hyper-parameters and fills in defaults. Throws UserError prefixed with `place`. */
export function parseTrainOptions(place: string, options: unknown): TrainOptions {
  const parsed = checkJson(place, options, trainSchema);
  if (parsed.checkpointedLayers !== undefined && !parsed.gradientCheckpointing) {
    throw new UserError(`${place}: checkpointedLayers is for gradientCheckpointing only; switch that on`);
  }
  return parsed;
}
