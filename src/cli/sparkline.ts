/** Curves in lines of text. */
import { type LossCurves, type LossPoint, trainLossAt } from '../api/curves.js';

/** The most characters of a curve between its losses. */
const CURVE_WIDTH = 48;

const BLOCKS = '▁▂▃▄▅▆▇█';

/**
 * Draws losses over steps from 0 to `lastStep`, at most `width` characters: the mean of what falls into each, a blank
 * where nothing does. `range` is what the lowest and the highest block stand for.
 */
export function sparkline(
  points: readonly LossPoint[],
  width: number,
  lastStep: number,
  range: { low: number; high: number } = rangeOf(points),
): string {
  const cells = Array.from({ length: Math.min(width, lastStep + 1) }, () => ({ sum: 0, count: 0 }));
  for (const { step, loss } of points) {
    const cell = cells[Math.min(cells.length - 1, Math.floor((step * cells.length) / (lastStep + 1)))];
    cell.sum += loss;
    cell.count++;
  }
  const { low, high } = range;
  return cells
    .map(({ sum, count }) => {
      if (count === 0) return ' ';
      const share = (sum / count - low) / (high - low || 1);
      return BLOCKS[Math.max(0, Math.min(BLOCKS.length - 1, Math.floor(share * BLOCKS.length)))];
    })
    .join('')
    .trimEnd();
}

/** The lowest and the highest loss. */
export function rangeOf(points: readonly LossPoint[]): { low: number; high: number } {
  const losses = points.map(({ loss }) => loss).filter(Number.isFinite);
  return {
    low: losses.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY),
    high: losses.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY),
  };
}

/** A run's curves between their first and last losses, a line each of at most `columns` characters. */
export function curveLines({ train, heldOut }: LossCurves, columns: number): string[] {
  const lastStep = train.at(-1)?.step ?? 0;
  const line = (name: string, points: readonly LossPoint[], last: number | undefined) => {
    if (points.length < 2 || last === undefined) return [];
    const [before, after] = [`${name}${points[0].loss.toFixed(3)} `, ` ${last.toFixed(3)}`];
    const width = Math.min(CURVE_WIDTH, columns - before.length - after.length);
    return width < 1 ? [] : [before + sparkline(points, width, lastStep) + after];
  };
  return [
    ...line('loss      ', train, trainLossAt({ train, heldOut }, lastStep)),
    ...line('held out  ', heldOut, heldOut.at(-1)?.loss),
  ];
}
