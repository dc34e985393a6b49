/** Bars in groups: figures of a few kinds for a few cases. */
import { scaleBand } from 'd3-scale';
import { type Axis, numberText, placeAxis } from './axis.js';
import { bar, type FigureWords, figure, SMALL, TEXT } from './figure.js';
import { namesBelow } from './names.js';
import { element, textAt } from './svg.js';
import { textWidth } from './textSize.js';
import { lookOf, type Theme } from './theme.js';
import { axisWords, errorBar, WIDTH } from './xy.js';

export interface BarSeries {
  name: string;
  /** One a group; undefined or not finite: no bar. */
  values: readonly (number | undefined)[];
  /** From where to where each may lie. */
  ranges?: readonly (readonly [low: number, high: number] | undefined)[];
}

export interface Bars extends FigureWords {
  /** The groups' names, from left to right. */
  groups: readonly string[];
  series: readonly BarSeries[];
  /** Without `from`, the axis begins at 0, as bars do. */
  y: Omit<Axis, 'log' | 'ticks'>;
}

const PLOT_HEIGHT = 280;

/** Draws one bar a group and series, from 0 on. */
export function bars({ groups, series, y: vertical, ...words }: Bars, theme: Theme = 'auto'): string {
  const finite = (value: number | undefined): value is number =>
    value !== undefined && Number.isFinite(value);
  const values = series.flatMap((one) => [
    ...one.values.filter(finite),
    ...(one.ranges ?? []).flatMap((range) => range ?? []),
  ]);
  const told = groups
    .map(
      (group, i) =>
        `${group}: ${series.map(({ name, values: own }) => `${series.length > 1 ? `${name} ` : ''}${finite(own[i]) ? numberText(own[i]) : 'none'}`).join(', ')}.`,
    )
    .join(' ');
  return figure({
    ...words,
    width: WIDTH,
    theme,
    legend: series.length > 1 ? series.map(({ name }, i) => ({ name, look: lookOf(i), kind: 'bars' })) : [],
    body: (from) => {
      const top = from + 30;
      const bottom = top + PLOT_HEIGHT;
      const base = vertical.from === undefined ? [0, ...values] : values;
      const y = placeAxis(vertical, base, { range: [bottom, top], count: 6, nice: true });
      const left = 16 + Math.max(20, ...y.tickList.map(({ label }) => textWidth(label, SMALL))) + 8;
      const right = WIDTH - 20;
      const outer = scaleBand<number>([left, right])
        .domain(groups.keys())
        .paddingInner(0.25)
        .paddingOuter(0.15);
      const inner = scaleBand<number>([0, outer.bandwidth()]).domain(series.keys()).padding(0.06);
      const [low, high] = y.domain;
      const zero = y.place(Math.min(Math.max(0, low), high))!;
      const drawn = groups.flatMap((_, g) =>
        series.flatMap(({ values: own, ranges = [] }, s) => {
          const value = own[g];
          if (!finite(value)) return [];
          const x = outer(g)! + inner(s)!;
          const end = y.place(Math.min(Math.max(value, low), high))!;
          const range = ranges[g];
          const wide = inner.bandwidth();
          const text = numberText(Number(value.toPrecision(3)));
          const tops = [end, ...(range ?? []).map((at) => y.place(at) ?? end)];
          const over = value < 0 ? Math.max(...tops) + 14 : Math.min(...tops) - 5;
          return [
            bar(lookOf(s), x, Math.min(zero, end), wide, Math.abs(zero - end)),
            ...errorBar(range, x + wide / 2, { y }, undefined, Math.min(4, wide / 3)),
            ...(textWidth(text, 10.5) <= wide + (series.length > 1 ? 3 : 20)
              ? [textAt(x + wide / 2, over, text, { anchor: 'middle', 'font-size': 10.5, class: 'value' })]
              : []),
          ];
        }),
      );
      // Values of bars that go down stand below them.
      const below = bottom + (values.some((value) => value < 0) ? 10 : 0);
      const names = namesBelow(groups, (g) => outer(g)! + outer.bandwidth() / 2, outer.step() - 6, below);
      return {
        drawn: [
          ...y.tickList.flatMap(({ at, label }) => [
            element('line', { class: 'grid', x1: left, x2: right, y1: y.place(at), y2: y.place(at) }),
            textAt(left - 8, y.place(at)! + 4, label, {
              anchor: 'end',
              'font-size': SMALL,
              class: 'muted tick-y',
            }),
          ]),
          ...drawn,
          element('line', { class: 'axis', x1: left, x2: right, y1: zero, y2: zero }),
          textAt(16, top - 12, vertical.label, { 'font-size': SMALL, class: 'muted label-y' }),
          ...names.drawn,
          ...(drawn.length === 0
            ? [
                textAt((left + right) / 2, (top + bottom) / 2, 'no data', {
                  anchor: 'middle',
                  'font-size': TEXT,
                  class: 'muted',
                }),
              ]
            : []),
        ],
        bottom: names.bottom,
        description: `Bars of ${axisWords(vertical)}. ${drawn.length === 0 ? 'no data.' : told}`,
      };
    },
  });
}
