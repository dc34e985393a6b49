/** Pictures of losses over steps. */
import { type LineSeries, lineChart, type Point, type Theme } from '../draw/index.js';
import { type LossCurves, type LossPoint, smoothTrainLoss } from './curves.js';

const AXES = { x: { label: 'step', from: 0 }, y: { label: 'loss' } };

/** Draws the training loss of each step, its course without the noise, and the held-out losses; undefined without any. */
export function lossCurveSvg(
  { train, heldOut }: LossCurves,
  title: string,
  theme?: Theme,
): string | undefined {
  if (![...train, ...heldOut].some(({ loss }) => Number.isFinite(loss))) return undefined;
  return lineChart(
    {
      title,
      ...AXES,
      series: [
        ...(train.length === 0
          ? []
          : [
              { name: 'training loss, each step', points: train.map(pointOf), look: 0, faint: true },
              { name: 'training loss, average', points: smoothTrainLoss({ train }).map(pointOf), look: 0 },
            ]),
        ...(heldOut.length === 0
          ? []
          : [{ name: 'held-out loss', points: heldOut.map(pointOf), look: 1, dots: true }]),
      ],
    },
    theme,
  );
}

/**
 * Draws the losses of several runs together, each with a look of its own: a curve for its training loss without the noise
 * and marks for its held-out losses.
 */
export function runCurvesSvg(
  runs: readonly { name: string; curves: LossCurves }[],
  title: string,
  theme?: Theme,
): string {
  const shown = runs.filter(({ curves: { train, heldOut } }) => train.length + heldOut.length > 0);
  const series = shown.flatMap(({ name, curves: { train, heldOut } }, look): LineSeries[] => [
    { name, points: smoothTrainLoss({ train }).map(pointOf), look },
    ...(heldOut.length === 0 ? [] : [{ points: heldOut.map(pointOf), look, dots: true, line: false }]),
  ]);
  const heldOut = shown.some(({ curves }) => curves.heldOut.length > 0);
  const subtitle = `lines: training loss without its noise${heldOut ? '; marks: held-out loss' : ''}`;
  return lineChart({ title, subtitle, ...AXES, series }, theme);
}

function pointOf({ step, loss }: LossPoint): Point {
  return [step, loss];
}
