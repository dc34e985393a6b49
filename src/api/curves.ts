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

/** Mean training loss of the last tenth of the steps up to `step`; undefined where the run did not come so far. */
export function trainLossAt({ train }: LossCurves, step: number): number | undefined {
  if (train.length === 0 || train[train.length - 1].step < step) return undefined;
  const past = train.filter((point) => point.step <= step && point.step > 0.9 * step - 1);
  return past.length > 0 ? past.reduce((sum, { loss }) => sum + loss, 0) / past.length : undefined;
}

/** Held-out loss of the last evaluation at or before `step`; undefined where the run did not come so far. */
export function heldOutLossAt({ train, heldOut }: LossCurves, step: number): number | undefined {
  if (step > (train.at(-1)?.step ?? 0)) return undefined;
  return heldOut.findLast((point) => point.step <= step)?.loss;
}
