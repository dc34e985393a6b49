/** Curves: losses over steps, spectra, means with their spread over seeds. */
import { area } from 'd3-shape';
import { type Axis, numberText, type PlacedAxis } from './axis.js';
import { curve, type FigureWords, type LegendEntry, marker } from './figure.js';
import { element } from './svg.js';
import { lookOf, type Theme } from './theme.js';
import { axisWords, type Frame, xyFigure } from './xy.js';

export type Point = readonly [x: number, y: number];

/** A curve. Points that are not finite, or have no place on a logarithmic axis, are left out. */
export interface LineSeries {
  points: readonly Point[];
  /** What the legend says; without it the curve has no entry there. */
  name?: string;
  /** The look it shares with another curve (0, 1, …): a noisy curve and its mean, say. Without it, its own. */
  look?: number;
  /** Thin and pale: what is there to be seen through. */
  faint?: boolean;
  /** A mark on each point. */
  dots?: boolean;
  /** Marks alone, no line between them. */
  line?: boolean;
  /** A range around the curve, as [x, low, high]: the spread over seeds. */
  band?: readonly (readonly [x: number, low: number, high: number])[];
}

export interface LineChart extends FigureWords {
  x: Axis;
  y: Axis;
  series: readonly LineSeries[];
}

/** More points than pixels show nothing more. */
const MAX_POINTS = 1000;

/** Draws curves over two axes, and cuts at the frame what is beyond ends that were asked for. */
export function lineChart({ series, ...chart }: LineChart, theme: Theme = 'auto'): string {
  const looks = series.map(({ look }, i) => lookOf(look ?? i));
  const points = series.flatMap((one) => one.points);
  const bands = series.flatMap(({ band = [] }) => band);
  const seen = (values: readonly Point[]) => values.filter((point) => isShown(point, chart));
  return xyFigure({
    ...chart,
    theme,
    xs: [...seen(points).map(([x]) => x), ...bands.map(([x]) => x)],
    ys: [...seen(points).map(([, y]) => y), ...bands.flatMap(([, low, high]) => [low, high])],
    legend: series.flatMap((_, i) => legendOf(series, i)),
    told: `Line chart of ${axisWords(chart.y)} over ${axisWords(chart.x)}. ${series
      .flatMap(({ points: own }, i) => {
        const name = nameOf(series, i);
        return name === undefined && i > 0 ? [] : [seriesWords(name, seen(own), chart.x.label)];
      })
      .join(' ')}`,
    marks: (frame) => {
      const shown = series.map((one) => pixelsOf(thinned(seen(one.points)), frame));
      return {
        inside: [
          ...series.flatMap(({ band = [] }, i) => bandOf(band, frame, looks[i].colour)),
          ...series.flatMap(({ faint, line: joined = true }, i) =>
            joined && shown[i].length > 1 ? [curve(shown[i], looks[i], faint)] : [],
          ),
        ],
        over: series.flatMap(({ dots, line: joined = true }, i) =>
          // A single point would be no line.
          dots || !joined || shown[i].length === 1
            ? shown[i].filter((pixel) => isWithin(pixel, frame)).map(([x, y]) => marker(looks[i], x, y))
            : [],
        ),
      };
    },
  });
}

function lookAt(series: readonly LineSeries[], i: number): number {
  return series[i].look ?? i;
}

/** What a curve is called in words: marks without a name by that of their curve. */
function nameOf(series: readonly LineSeries[], i: number): string | undefined {
  const { name, dots } = series[i];
  if (name !== undefined || !dots) return name;
  const curve = series.find(
    (other, at) => other.name !== undefined && lookAt(series, at) === lookAt(series, i),
  );
  return curve && `${curve.name}, marks`;
}

/** Marks without a name belong to the curve whose look they share, and are shown on its sample. */
function legendOf(series: readonly LineSeries[], i: number): LegendEntry[] {
  const { name, faint, line = true } = series[i];
  if (name === undefined) return [];
  const marked = series.some(
    (other, at) =>
      other.dots && lookAt(series, at) === lookAt(series, i) && (at === i || other.name === undefined),
  );
  const kind = !line ? 'points' : faint ? 'faint' : marked ? 'line' : 'dashes';
  return [{ name, look: lookOf(lookAt(series, i)), kind }];
}

function isShown([x, y]: Point, chart: { x: Axis; y: Axis }): boolean {
  return Number.isFinite(x) && Number.isFinite(y) && (!chart.x.log || x > 0) && (!chart.y.log || y > 0);
}

function pixelsOf(points: readonly Point[], { x, y }: Frame): Point[] {
  return points.map(([px, py]) => [x.place(px)!, y.place(py)!]);
}

function isWithin([x, y]: Point, { left, right, top, bottom }: Frame): boolean {
  return x >= left - 1 && x <= right + 1 && y >= top - 1 && y <= bottom + 1;
}

function bandOf(
  band: NonNullable<LineSeries['band']>,
  { x, y }: { x: PlacedAxis; y: PlacedAxis },
  colour: string,
): string[] {
  const places = band.flatMap(([at, low, high]) => {
    const pixels = [x.place(at), y.place(low), y.place(high)];
    return pixels.includes(undefined) ? [] : [pixels as [number, number, number]];
  });
  if (places.length < 2) return [];
  const path = area<[number, number, number]>()
    .x(([at]) => at)
    .y0(([, low]) => low)
    .y1(([, , high]) => high)
    .digits(1)(places);
  return [element('path', { class: 'band', fill: colour, 'fill-opacity': 0.18, d: path ?? '' })];
}

/** At most MAX_POINTS of them: of each stretch the first, lowest, highest and last, so that no peak is lost. */
function thinned(points: readonly Point[]): readonly Point[] {
  if (points.length <= MAX_POINTS) return points;
  const length = Math.ceil((4 * points.length) / MAX_POINTS);
  const kept: Point[] = [];
  for (let from = 0; from < points.length; from += length) {
    const to = Math.min(points.length, from + length);
    let [low, high] = [from, from];
    for (let i = from; i < to; i++) {
      if (points[i][1] < points[low][1]) low = i;
      if (points[i][1] > points[high][1]) high = i;
    }
    const places = new Set([from, low, high, to - 1].sort((a, b) => a - b));
    kept.push(...[...places].map((i) => points[i]));
  }
  return kept;
}

function seriesWords(name = 'The curve', points: readonly Point[], xLabel: string): string {
  if (points.length === 0) return `${name}: nothing to show.`;
  const at = ([x, y]: Point) => `${numberText(y)} at ${xLabel} ${numberText(x)}`;
  if (points.length === 1) return `${name}: ${at(points[0])}.`;
  const lowest = points.reduce((least, point) => (point[1] < least[1] ? point : least));
  const highest = points.reduce((most, point) => (point[1] > most[1] ? point : most));
  return `${name}: ${points.length} points, from ${at(points[0])} to ${at(points[points.length - 1])}; lowest ${at(lowest)}, highest ${at(highest)}.`;
}
