/** Charts with two axes: the frame around what they show. */
import { type Axis, type PlacedAxis, placeAxis } from './axis.js';
import { type FigureWords, figure, type LegendEntry, SMALL, TEXT } from './figure.js';
import { element, textAt } from './svg.js';
import { textWidth } from './textSize.js';
import type { Theme } from './theme.js';

/** What is drawn between the axes; `xs` and `ys` have to be in sight. */
export interface XyInput extends FigureWords {
  x: Axis;
  y: Axis;
  xs: readonly number[];
  ys: readonly number[];
  legend: readonly LegendEntry[];
  /** Share of the x axis left free at its ends. */
  xPadding?: number;
  theme: Theme;
  width?: number;
  /** Of the part between the axes. */
  plotHeight?: number;
  /** What is cut at the frame, and what is not. */
  marks: (frame: Frame) => { inside: readonly string[]; over?: readonly string[] };
  /** The picture in words. */
  told: string;
}

export interface Frame {
  x: PlacedAxis;
  y: PlacedAxis;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export const WIDTH = 720;
const RIGHT = 20;
const NO_DATA = 'no data';

export function xyFigure(input: XyInput): string {
  const { width = WIDTH, plotHeight = 280, xPadding = 0, theme, legend, marks, told, xs, ys } = input;
  return figure({
    ...input,
    width,
    theme,
    legend,
    body: (from) => {
      const top = from + 30;
      const bottom = top + plotHeight;
      const y = placeAxis(input.y, ys, { range: [bottom, top], count: 6, nice: true });
      const labels = y.tickList.map(({ label }) => textWidth(label, SMALL));
      const left = 16 + Math.max(20, ...labels) + 8;
      const right = width - RIGHT;
      const x = placeAxis(input.x, xs, { range: [left, right], count: 8, padding: xPadding });
      const frame = { x, y, left, right, top, bottom };
      const { inside, over = [] } = marks(frame);
      const empty = inside.length === 0 && over.length === 0;
      return {
        drawn: [
          ...grid(frame),
          // An inner svg cuts what it holds at its edges.
          element(
            'svg',
            {
              class: 'plot',
              x: left,
              y: top,
              width: right - left,
              height: bottom - top,
              viewBox: `${left} ${top} ${right - left} ${bottom - top}`,
            },
            ...inside,
          ),
          ...over,
          ...(empty
            ? [
                textAt((left + right) / 2, (top + bottom) / 2, NO_DATA, {
                  anchor: 'middle',
                  'font-size': TEXT,
                  class: 'muted',
                }),
              ]
            : []),
        ],
        bottom: bottom + 46,
        description: empty ? `${told} ${NO_DATA}.` : told,
      };
    },
  });
}

function grid({ x, y, left, right, top, bottom }: Frame): string[] {
  return [
    ...y.tickList.flatMap(({ at, label }) => {
      const place = y.place(at);
      if (place === undefined) return [];
      return [
        element('line', { class: 'grid', x1: left, x2: right, y1: place, y2: place }),
        textAt(left - 8, place + 4, label, { anchor: 'end', 'font-size': SMALL, class: 'muted tick-y' }),
      ];
    }),
    element('line', { class: 'axis', x1: left, x2: right, y1: bottom, y2: bottom }),
    ...xTicks(x, left, right).flatMap(({ label, place }) => [
      element('line', {
        class: 'axis',
        x1: place,
        x2: place,
        y1: bottom,
        y2: bottom + 4,
      }),
      textAt(place, bottom + 18, label, { anchor: 'middle', 'font-size': SMALL, class: 'muted tick-x' }),
    ]),
    textAt(16, top - 12, y.label, { 'font-size': SMALL, class: 'muted label-y' }),
    textAt((left + right) / 2, bottom + 37, x.label, {
      anchor: 'middle',
      'font-size': SMALL,
      class: 'muted label-x',
    }),
  ];
}

/** The numbers of the x axis that have room beside each other, within the picture. */
function xTicks({ tickList, place }: PlacedAxis, left: number, right: number) {
  const kept: { label: string; place: number; end: number }[] = [];
  for (const { at, label } of tickList) {
    const pixel = place(at);
    if (pixel === undefined) continue;
    const half = textWidth(label, SMALL) / 2;
    const free = kept.length === 0 || pixel - half > kept[kept.length - 1].end + 8;
    if (free && pixel + half < right + RIGHT && pixel - half > left - 40)
      kept.push({ label, place: pixel, end: pixel + half });
  }
  return kept;
}

/** How an axis is told: its label, and whether it is logarithmic. */
export function axisWords({ label, log }: Axis): string {
  return log ? `${label} (logarithmic)` : label;
}

/** A bar with caps from the lower to the higher value, at a pixel of the x axis. */
export function errorBar(
  range: readonly [number, number] | undefined,
  px: number,
  { y }: Pick<Frame, 'y'>,
  colour: string | undefined,
  cap = 4,
): string[] {
  const [low, high] = (range ?? []).map(y.place);
  if (low === undefined || high === undefined) return [];
  return [
    element('path', {
      class: colour === undefined ? 'error ink' : 'error',
      fill: 'none',
      stroke: colour,
      'stroke-width': 1.5,
      d: `M${[px - cap, low].map(round)}h${2 * cap}M${[px, low].map(round)}V${round(high)}M${[px - cap, high].map(round)}h${2 * cap}`,
    }),
  ];
}

const round = (value: number) => value.toFixed(1);
