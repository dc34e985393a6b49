import { chartSvg, type Point, ticks } from './chart.js';
import { type LossCurves, type LossPoint, smoothTrainLoss } from './curves.js';

const TRAINING = '#1f77b4';
const HELD_OUT = '#d95f02';

/** Draws the training loss of each step, its course without the noise, and the held-out losses; undefined without any. */
export function lossCurveSvg({ train, heldOut }: LossCurves, title: string): string | undefined {
  const all = [...train, ...heldOut].filter(({ loss }) => Number.isFinite(loss));
  if (all.length === 0) return undefined;
  const lastStep = all.reduce((max, { step }) => Math.max(max, step), 1);
  const steps = ticks(0, lastStep, 6).filter((tick) => tick <= lastStep);
  return chartSvg({
    title,
    xLabel: 'step',
    x: { from: 0, to: lastStep, ticks: steps.map((at) => ({ at, label: String(at) })) },
    y: {
      from: all.reduce((min, { loss }) => Math.min(min, loss), Number.POSITIVE_INFINITY),
      to: all.reduce((max, { loss }) => Math.max(max, loss), Number.NEGATIVE_INFINITY),
    },
    series: [
      {
        points: train.map(pointOf),
        colour: TRAINING,
        faint: true,
        ...(train.length > 0 && { name: 'each step (faint)' }),
      },
      {
        points: smoothTrainLoss({ train }).map(pointOf),
        colour: TRAINING,
        name: 'training loss, average',
      },
      {
        points: heldOut.map(pointOf),
        colour: HELD_OUT,
        dots: true,
        ...(heldOut.length > 0 && { name: 'held-out loss' }),
      },
    ],
  });
}

function pointOf({ step, loss }: LossPoint): Point {
  return [step, loss];
}
