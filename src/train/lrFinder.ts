/** The learning-rate range test (Smith, arXiv:1506.01186), as fastai and Lightning run it. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { Smoothed } from '../base/smoothed.js';
import { f32 } from '../base/tensor.js';
import { checkJson } from '../formats/io/json.js';
import { emptyState } from '../methods/adapter.js';
import { DivergedError, type TrainLoopInput, trainLoop } from './loop.js';
import { MAX_STEPS } from './options.js';

/** Options of the test. The command line makes its flags and their help from this. */
export const lrRangeSchema = z.strictObject({
  minLr: z.number().positive().default(1e-6).describe('learning rate of the first step'),
  maxLr: z.number().positive().default(1).describe('learning rate of the last step'),
  lrSteps: z.int().min(20).max(MAX_STEPS).default(100).describe('steps from the one to the other'),
});
export type LrRange = z.output<typeof lrRangeSchema>;
export type LrRangeInput = z.input<typeof lrRangeSchema>;

/** Checks the options and fills in defaults. Throws UserError prefixed with `place`. */
export function parseLrRange(place: string, options: unknown): LrRange {
  const range = checkJson(place, options, lrRangeSchema);
  if (range.minLr >= range.maxLr) {
    throw new UserError(`${place}: minLr ${range.minLr} is not below maxLr ${range.maxLr}`);
  }
  return range;
}

/** The loss of one step, computed before its update. */
export interface LrPoint {
  learningRate: number;
  /** Mean loss of the supervised tokens of the batch, nats. */
  loss: number;
}

export interface LrFound {
  points: LrPoint[];
  /** The losses smoothed, one a point. */
  smooth: number[];
  /** Where the smooth loss falls fastest; undefined where it does not fall. */
  steepest: number | undefined;
  /** A tenth of where it is lowest; undefined where it does not fall. */
  tenthOfLowest: number | undefined;
  /** Why it ended. */
  end: 'diverged' | 'reached the last rate' | 'interrupted';
}

export type LrEvent =
  | ({ kind: 'lrStep'; step: number; steps: number; tokensPerSecond: number; secondsLeft: number } & LrPoint)
  | ({ kind: 'lrFound' } & LrFound);

/** Watches a run of losses for divergence. */
export class DivergenceWatch {
  private readonly mean = new Smoothed(0.2);
  private start = Number.POSITIVE_INFINITY;
  private lowest = Number.POSITIVE_INFINITY;
  private steps = 0;

  /**
   * Whether the loss has diverged: its mean is four times its lowest so far, as fastai and Lightning have it, or a
   * quarter above that of the first ten steps, since a language model's loss has a ceiling (about that of a uniform
   * guess) which may lie below the former.
   */
  add(loss: number): boolean {
    const mean = this.mean.add(loss);
    if (++this.steps <= 10) this.start = mean;
    this.lowest = Math.min(this.lowest, mean);
    return mean > Math.min(4 * this.lowest, 1.25 * this.start);
  }
}

/** Standard deviation of the smoothing of the curve, in steps of a hundred. */
const SMOOTHING = 3;
/** Steps at the start, of a hundred, in which no slope is looked for. */
const MARGIN = 5;

/**
 * Trains a copy of the adapter's values over a few steps whose learning rate grows exponentially, until the loss
 * diverges. What the method does behind a step (onStep) is left out. The adapter itself stays as it is.
 */
export async function* findLearningRate<E>(
  job: Pick<
    TrainLoopInput<E>,
    'runtime' | 'model' | 'adapter' | 'objective' | 'examples' | 'options' | 'signal' | 'session'
  >,
  { minLr, maxLr, lrSteps }: LrRange,
): AsyncGenerator<LrEvent, void, void> {
  const { adapter, signal } = job;
  const copies = [...adapter.values].map(([name, t]) => [name, f32(t.data.slice(), t.dims)] as const);
  const method = { ...adapter.method, onStart: undefined, onStep: undefined };
  const events = trainLoop({
    ...job,
    adapter: { ...adapter, method, values: new Map(copies), state: emptyState() },
    options: { ...job.options, maxSteps: lrSteps, earlyStoppingPatience: undefined },
    learningRateAt: (step) => minLr * (maxLr / minLr) ** (step / (lrSteps - 1)),
  });
  const points: LrPoint[] = [];
  const watch = new DivergenceWatch();
  let end: LrFound['end'] = 'reached the last rate';
  try {
    for await (const event of events) {
      if (event.kind !== 'step') continue;
      const { step, steps, learningRate, loss, tokensPerSecond, secondsLeft } = event;
      points.push({ learningRate, loss });
      yield { kind: 'lrStep', step, steps, learningRate, loss, tokensPerSecond, secondsLeft };
      if (watch.add(loss)) end = 'diverged';
      else if (signal?.aborted) end = 'interrupted';
      else continue;
      break;
    }
  } catch (error) {
    if (!(error instanceof DivergedError)) throw error;
    end = 'diverged';
  }
  yield { kind: 'lrFound', ...suggest(points), end };
}

/** Smooths the losses of a test and finds the learning rates that they speak for. */
export function suggest(points: readonly LrPoint[]): Omit<LrFound, 'end'> {
  const smooth = smoothed(points.map(({ loss }) => loss));
  const found = { points: [...points], smooth };
  const lowest = smooth.indexOf(Math.min(...smooth));
  let slope = 0;
  let steepest: number | undefined;
  // Behind the lowest, a loss that has risen may fall again.
  for (let i = Math.max(1, Math.round((points.length * MARGIN) / 100)); i < lowest; i++) {
    const fall = (smooth[i + 1] - smooth[i - 1]) / 2;
    if (fall < slope) [slope, steepest] = [fall, i];
  }
  if (steepest === undefined) return { ...found, steepest: undefined, tenthOfLowest: undefined };
  return {
    ...found,
    steepest: points[steepest].learningRate,
    tenthOfLowest: points[lowest].learningRate / 10,
  };
}

/** A Gaussian mean around each value, without the lag that a mean of the past has. */
function smoothed(values: readonly number[]): number[] {
  const width = Math.max(1, (values.length * SMOOTHING) / 100);
  const reach = Math.ceil(3 * width);
  return values.map((_, i) => {
    let sum = 0;
    let weights = 0;
    for (let j = Math.max(0, i - reach); j <= Math.min(values.length - 1, i + reach); j++) {
      const weight = Math.exp(-0.5 * ((j - i) / width) ** 2);
      sum += weight * values[j];
      weights += weight;
    }
    return sum / weights;
  });
}
