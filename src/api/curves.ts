/** The courses of a run's losses. */
import type { Metric } from './metric.js';

/** A point of a curve. */
export interface LossPoint {
  step: number;
  loss: number;
}

/** Losses of a run, in the order of its steps. */
export interface LossCurves {
  train: LossPoint[];
  heldOut: LossPoint[];
}

/** The curves in the metrics of a run. */
export function curvesOf(metrics: readonly Metric[]): LossCurves {
  const of = (kind: Metric['kind']) =>
    metrics.filter((m) => m.kind === kind).map(({ step, loss }) => ({ step, loss }));
  return { train: of('step'), heldOut: of('eval') };
}

/** What of the steps a point of the smooth curve is fitted to, and the fewest. */
const SMOOTHED = { share: 0.1, least: 5 };

/**
 * The training loss without its noise: at each step the value of the straight line that fits the tenth of the steps around
 * it best. At the ends, where all of them lie on one side, it does not lag as a mean does.
 */
export function smoothTrainLoss({ train }: Pick<LossCurves, 'train'>): LossPoint[] {
  const half = Math.floor(Math.max(SMOOTHED.least, SMOOTHED.share * train.length) / 2);
  // Sums over the points before each: of 1, x, y, x² and x·y, x and y counted from their means.
  const xMean = (train.length - 1) / 2;
  const yMean = train.reduce((sum, { loss }) => sum + loss / train.length, 0);
  const sums = [[0, 0, 0, 0, 0]];
  for (const [i, { loss }] of train.entries()) {
    const [x, y] = [i - xMean, loss - yMean];
    const added = [1, x, y, x * x, x * y];
    sums.push(sums[i].map((sum, k) => sum + added[k]));
  }
  return train.map(({ step }, i) => {
    const from = sums[Math.max(0, i - half)];
    const to = sums[Math.min(train.length, i + half + 1)];
    const [n, sx, sy, sxx, sxy] = to.map((sum, k) => sum - from[k]);
    const spread = n * sxx - sx * sx;
    const slope = spread > 0 ? (n * sxy - sx * sy) / spread : 0;
    return { step, loss: yMean + (sy + slope * (n * (i - xMean) - sx)) / n };
  });
}

/** Mean training loss of the last tenth of the steps up to `step`; undefined where the run did not come so far. */
export function trainLossAt({ train }: LossCurves, step: number): number | undefined {
  if (train.length === 0 || train[train.length - 1].step < step) return undefined;
  const past = train.filter((point) => point.step <= step && point.step > 0.9 * step - 1);
  return past.length > 0 ? past.reduce((sum, { loss }) => sum + loss, 0) / past.length : undefined;
}

/** Held-out loss that was measured at `step`; undefined where none was. */
export function heldOutLossAt({ heldOut }: Pick<LossCurves, 'heldOut'>, step: number): number | undefined {
  return heldOut.findLast((point) => point.step === step)?.loss;
}
