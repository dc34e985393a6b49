/** Points with names and errors: accuracy against parameters. */
import { type Axis, numberText } from './axis.js';
import { curve, type FigureWords, marker, SMALL } from './figure.js';
import { textAt } from './svg.js';
import { textWidth } from './textSize.js';
import { lookOf, type Theme } from './theme.js';
import { axisWords, errorBar, type Frame, xyFigure } from './xy.js';

export interface ScatterPoint {
  x: number;
  y: number;
  /** What stands beside it. */
  label?: string;
  /** From where to where its y may lie. */
  yRange?: readonly [low: number, high: number];
}

export interface ScatterGroup {
  name: string;
  points: readonly ScatterPoint[];
  /** Joins its points in their order. */
  line?: boolean;
}

export interface Scatter extends FigureWords {
  x: Axis;
  y: Axis;
  groups: readonly ScatterGroup[];
}

/** Draws points by group; those that are not finite, or have no place on a logarithmic axis, are left out. */
export function scatter({ groups, ...chart }: Scatter, theme: Theme = 'auto'): string {
  const isShown = ({ x, y }: ScatterPoint) =>
    Number.isFinite(x) && Number.isFinite(y) && (!chart.x.log || x > 0) && (!chart.y.log || y > 0);
  const shown = groups.map(({ points }) => points.filter(isShown));
  const all = shown.flat();
  return xyFigure({
    ...chart,
    theme,
    plotHeight: 320,
    xPadding: 0.06,
    xs: all.map(({ x }) => x),
    ys: all.flatMap(({ y, yRange = [] }) => [y, ...yRange]),
    legend: groups.map(({ name, line: joined }, i) => ({
      name,
      look: lookOf(i),
      kind: joined ? 'line' : 'points',
    })),
    told: `Points of ${axisWords(chart.y)} over ${axisWords(chart.x)}. ${groups
      .map(
        ({ name }, i) =>
          `${name}: ${shown[i].map((point) => pointWords(point, chart.x.label)).join(', ') || 'nothing to show'}.`,
      )
      .join(' ')}`,
    marks: (frame) => {
      const places = shown.map((points) => points.map((point) => ({ point, ...pixelOf(point, frame) })));
      return {
        inside: places.flatMap((points, i) =>
          groups[i].line && points.length > 1
            ? [
                curve(
                  points.map(({ px, py }) => [px, py] as const),
                  lookOf(i),
                ),
              ]
            : [],
        ),
        over: [
          ...places.flatMap((points, i) =>
            points.flatMap(({ point, px }) => errorBar(point.yRange, px, frame, lookOf(i).colour)),
          ),
          ...places.flatMap((points, i) => points.map(({ px, py }) => marker(lookOf(i), px, py, 60))),
          ...labels(
            places.flat(),
            [
              ...places.flatMap((points, i) => (groups[i].line ? joints(points) : [])),
              ...places
                .flat()
                .flatMap(({ point: { yRange = [] }, px }) =>
                  yRange.map((end) => boxAround(px, frame.y.place(end) ?? frame.top, 4)),
                ),
            ],
            frame,
          ),
        ],
      };
    },
  });
}

function pixelOf({ x, y }: ScatterPoint, frame: Frame): { px: number; py: number } {
  return { px: frame.x.place(x)!, py: frame.y.place(y)! };
}

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Boxes along the lines between points. */
function joints(points: readonly { px: number; py: number }[]): Box[] {
  return points.slice(1).flatMap(({ px, py }, i) => {
    const from = points[i];
    const count = Math.ceil(Math.hypot(px - from.px, py - from.py) / 6);
    return Array.from({ length: count }, (_, k) => {
      const share = k / count;
      return boxAround(from.px + share * (px - from.px), from.py + share * (py - from.py), 3);
    });
  });
}

function boxAround(x: number, y: number, half: number): Box {
  return { left: x - half, right: x + half, top: y - half, bottom: y + half };
}

/** Labels beside their points, each where it covers least of what is there. */
function labels(
  points: readonly { point: ScatterPoint; px: number; py: number }[],
  drawn: readonly Box[],
  frame: Frame,
): string[] {
  const taken = [...points.map(({ px, py }) => boxAround(px, py, 5)), ...drawn];
  return points.flatMap(({ point: { label }, px, py }) => {
    if (label === undefined || label === '') return [];
    const wide = textWidth(label, SMALL);
    const boxAt = (left: number, top: number): Box => ({ left, right: left + wide, top, bottom: top + 14 });
    const beside = [0, -14, 14, -28, 28, -42, 42].flatMap((away) => [
      boxAt(px + 9, py - 7 + away),
      boxAt(px - 9 - wide, py - 7 + away),
    ]);
    const candidates = [
      ...beside.slice(0, 2),
      boxAt(px - wide / 2, py - 24),
      boxAt(px - wide / 2, py + 10),
      ...beside.slice(2),
    ];
    const cost = (box: Box) =>
      taken.reduce((sum, other) => sum + overlap(box, other), 0) + 50 * outside(box, frame);
    const best = candidates.reduce((least, box) => (cost(box) < cost(least) - 1e-9 ? box : least));
    taken.push(best);
    return [textAt(best.left, best.top + 11, label, { 'font-size': SMALL, class: 'name' })];
  });
}

function overlap(a: Box, b: Box): number {
  const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  return wide > 0 && high > 0 ? wide * high : 0;
}

function outside({ left, right, top, bottom }: Box, frame: Frame): number {
  const over = [frame.left - left, right - frame.right - 14, frame.top - top, bottom - frame.bottom];
  return over.reduce((sum, pixels) => sum + Math.max(0, pixels), 0);
}

function pointWords({ x, y, label, yRange }: ScatterPoint, xLabel: string): string {
  const spread = yRange === undefined ? '' : ` (${yRange.map(numberText).join(' to ')})`;
  return `${label === undefined || label === '' ? '' : `${label} `}${numberText(y)}${spread} at ${xLabel} ${numberText(x)}`;
}
