/** Matrices as colours: similarity of subspaces, where an adapter's weight sits. */
import { extent, max, mean } from 'd3-array';
import { scaleDiverging, scaleSequential } from 'd3-scale';
import { interpolateRdBu, interpolateViridis } from 'd3-scale-chromatic';
import { clamped, numberText, placeAxis } from './axis.js';

import { type FigureWords, figure, hatching, SMALL, TEXT } from './figure.js';
import { namesBelow } from './names.js';
import { element, textAt } from './svg.js';
import { clipped, textWidth } from './textSize.js';
import { inkOn, type Theme } from './theme.js';

/** From values to colours. Sequential: viridis, dark to light; diverging: blue below the middle, red above it. */
export interface ColourScale {
  kind: 'sequential' | 'diverging';
  /** What the values are, with their unit. */
  label: string;
  /** Ends, where they are not those of the values; a diverging scale reaches as far to both sides of its middle. */
  from?: number;
  to?: number;
  /** The middle of a diverging scale; 0 without it. */
  middle?: number;
}

/** A matrix. */
export interface HeatMap {
  /** Over it where there are several. */
  title?: string;
  /** What its rows and columns are. */
  rowLabel?: string;
  columnLabel?: string;
  /** Their names, from the top and from the left. */
  rows: readonly string[];
  columns: readonly string[];
  /** values[row][column]; undefined or not finite: nothing known, drawn as a hatched cell. */
  values: readonly (readonly (number | undefined)[])[];
}

export interface HeatMaps extends FigureWords {
  /** One, or several that share the colours. */
  maps: readonly HeatMap[];
  scale: ColourScale;
  /** How many stand beside each other. */
  across?: number;
}

const LEGEND = 84;
const GAP = 26;
const EDGE = 16;
const MAX_WIDTH = 1040;
const CELL = { least: 3, most: 56 };
const NUMBERS = 10.5;
/** A rectangle reaches this far over the next one, which is drawn later, so that no seam shows between rounded edges. */
const OVER = 0.6;
/** Beyond this many rows or columns cells are means of several. */
const MOST = 128;

/** Draws matrices on one scale of colours, with the numbers in the cells where they have room. */
export function heatMaps({ maps, scale, across, ...words }: HeatMaps, theme: Theme = 'auto'): string {
  const shown = maps.map(reduced);
  const values = shown.flatMap((map) => map.values.flat()).filter(isKnown);
  const colours = coloursOf(scale, values);
  const perRow = Math.max(1, across ?? Math.min(shown.length, 3));
  const layout = layoutOf(shown, perRow);
  const width = Math.max(420, 2 * EDGE + perRow * layout.panel + (perRow - 1) * GAP + LEGEND);
  return figure({
    ...words,
    width,
    theme,
    body: (from) => {
      // The name of the colours has a line of its own.
      const drawn = [
        textAt(width - EDGE, from + 16, clipped(scale.label, width - 2 * EDGE, SMALL), {
          anchor: 'end',
          'font-size': SMALL,
          class: 'muted',
        }),
      ];
      let top = from + 24;
      let bottom = top + 60;
      for (let i = 0; i < shown.length; i += perRow) {
        const row = shown.slice(i, i + perRow);
        const ends = row.map((map, at) => {
          const panel = drawMap(map, EDGE + at * (layout.panel + GAP), top, layout, colours.of);
          drawn.push(panel.drawn);
          return panel.bottom;
        });
        bottom = Math.max(...ends);
        top = bottom + 14;
      }
      const height = Math.max(120, Math.min(320, bottom - from - 60));
      drawn.push(...legendScale(width - LEGEND + 4, from + 32 + (layout.titled ? 18 : 0), height, colours));
      if (values.length === 0)
        drawn.push(textAt(EDGE, from + 30, 'no data', { 'font-size': TEXT, class: 'muted' }));
      return {
        drawn,
        bottom: Math.max(bottom, from + 50 + height) + 12,
        description: `Heat map of ${scale.label}. ${maps.map(mapWords).join(' ')}`,
      };
    },
  });
}

/** Draws one matrix. */
export function heatMap(map: HeatMap & FigureWords & { scale: ColourScale }, theme: Theme = 'auto'): string {
  const { title, subtitle, description, scale, ...rest } = map;
  return heatMaps({ title, subtitle, description, scale, maps: [rest] }, theme);
}

interface Colours {
  of: (value: number) => string;
  from: number;
  to: number;
}

function coloursOf({ kind, from, to, middle = 0 }: ColourScale, values: readonly number[]): Colours {
  const [least = 0, most = 1] = extent(values, clamped);
  if (kind === 'sequential') {
    const low = from ?? least;
    const asked = to ?? most;
    const high = asked > low ? asked : clamped(low + (Math.abs(low) || 1));
    return { of: scaleSequential(interpolateViridis).domain([low, high]).clamp(true), from: low, to: high };
  }
  const reach = Math.max(Math.abs((from ?? least) - middle), Math.abs((to ?? most) - middle)) || 1;
  const [low, high] = [clamped(middle - reach), clamped(middle + reach)];
  return {
    of: scaleDiverging((share) => interpolateRdBu(1 - share))
      .domain([low, middle, high])
      .clamp(true),
    from: low,
    to: high,
  };
}

interface Layout {
  cell: { width: number; height: number };
  /** Room for the rows' names. */
  names: number;
  /** A map with its names. */
  panel: number;
  titled: boolean;
  /** The text of a cell, where they have room for theirs. */
  cellText: ((value: number) => string) | undefined;
}

function layoutOf(maps: readonly HeatMap[], perRow: number): Layout {
  const columns = Math.max(1, ...maps.map((map) => map.columns.length));
  const rows = Math.max(1, ...maps.map((map) => map.rows.length));
  const named = Math.max(0, ...maps.flatMap((map) => map.rows.map((name) => textWidth(name, SMALL))));
  const names = Math.min(190, named) + 10 + (maps.some(({ rowLabel }) => rowLabel !== undefined) ? 20 : 0);
  const room = (MAX_WIDTH - 2 * EDGE - LEGEND - (perRow - 1) * GAP) / perRow - names;
  const values = maps.flatMap((map) => map.values.flat()).filter(isKnown);
  const cellText = cellTextOf(values);
  const widest = (max(values, (value) => textWidth(cellText(value), NUMBERS)) ?? 0) + 6;
  const numbers = columns <= 16 && rows <= 40 && widest <= room / columns;
  const most = perRow > 1 ? 30 : 44;
  const wide = Math.max(numbers ? widest : 0, Math.min(most, 360 / columns));
  const width = Math.max(CELL.least, Math.min(CELL.most, wide, room / columns));
  // A wide matrix of few rows would be a thin strip.
  const height = numbers ? 26 : Math.max(CELL.least, Math.min(30, Math.max(width, Math.min(20, 200 / rows))));
  const panel = names + Math.max(width * columns, 60);
  return {
    cell: { width, height },
    names,
    panel,
    titled: maps.some(({ title }) => title),
    cellText: numbers ? cellText : undefined,
  };
}

function drawMap(
  { title, rowLabel, columnLabel, rows, columns, values }: HeatMap,
  left: number,
  top: number,
  { cell, names, panel, titled, cellText }: Layout,
  colour: (value: number) => string,
): { drawn: string; bottom: number } {
  const x = left + names;
  const y = top + (titled ? 26 : 8);
  const [wide, high] = [cell.width * columns.length, cell.height * rows.length];
  const everyRow = Math.max(1, Math.ceil(14 / cell.height));
  const middle = y + high / 2;
  const below = namesBelow(columns, (i) => x + (i + 0.5) * cell.width, cell.width - 4, y + high);
  const edges = (n: number, size: number) => [n * size, (n + 1) * size];
  const cells = values.flatMap((row, r) =>
    row.slice(0, columns.length).map((value, c) => {
      const [x1] = edges(c, cell.width);
      const [y1] = edges(r, cell.height);
      const box = { x: x + x1, y: y + y1, width: cell.width, height: cell.height };
      if (!isKnown(value))
        return element('path', {
          class: 'axis unknown',
          fill: 'none',
          'stroke-opacity': 0.6,
          d: hatching(45, box.x, box.y, box.width, box.height, 5),
        });
      const fill = colour(value);
      const filled = element('rect', {
        ...{ class: 'cell', fill, 'shape-rendering': 'crispEdges', x: box.x, y: box.y },
        width: box.width + (c < columns.length - 1 ? OVER : 0),
        height: box.height + (r < rows.length - 1 ? OVER : 0),
      });
      if (cellText === undefined) return filled;
      const text = textAt(box.x + cell.width / 2, box.y + cell.height / 2 + 4, cellText(value), {
        anchor: 'middle',
        'font-size': NUMBERS,
        style: `fill:${inkOn(fill)}`,
      });
      return filled + text;
    }),
  );
  const drawn = [
    title
      ? textAt(x, top + 15, clipped(title, Math.max(panel - names, 60), TEXT), { 'font-size': TEXT })
      : '',
    rowLabel === undefined
      ? ''
      : textAt(left + 11, middle, rowLabel, {
          anchor: 'middle',
          'font-size': SMALL,
          class: 'muted label-y',
          transform: `rotate(-90 ${(left + 11).toFixed(1)} ${middle.toFixed(1)})`,
        }),
    ...cells,
    ...rows.flatMap((name, r) =>
      r % everyRow === 0
        ? [
            textAt(x - 7, y + (r + 0.5) * cell.height + 4, clipped(name, 190, SMALL), {
              anchor: 'end',
              'font-size': SMALL,
              class: 'muted name-y',
            }),
          ]
        : [],
    ),
    ...below.drawn,
    columnLabel === undefined
      ? ''
      : textAt(x + wide / 2, below.bottom + 8, columnLabel, {
          anchor: 'middle',
          'font-size': SMALL,
          class: 'muted label-x',
        }),
  ];
  return {
    drawn: drawn.filter((one) => one !== '').join('\n'),
    bottom: below.bottom + (columnLabel === undefined ? 2 : 16),
  };
}

/** A strip of the colours with numbers beside it. */
function legendScale(x: number, top: number, height: number, { of, from, to }: Colours): string[] {
  const strips = 64;
  const axis = placeAxis({ label: '' }, [from, to], { range: [top + height, top], count: 5 });
  const [low, high] = axis.domain;
  const strip = height / strips;
  return [
    ...Array.from({ length: strips }, (_, i) =>
      element('rect', {
        class: 'strip',
        fill: of(high - ((i + 0.5) / strips) * (high - low)),
        x,
        y: top + i * strip,
        width: 14,
        height: i === strips - 1 ? strip : strip + OVER,
      }),
    ),
    ...axis.tickList.flatMap(({ at, label: text }) => [
      element('line', { class: 'axis', x1: x + 14, x2: x + 18, y1: axis.place(at), y2: axis.place(at) }),
      textAt(x + 21, axis.place(at)! + 4, text, { 'font-size': SMALL, class: 'muted' }),
    ]),
  ];
}

/** A matrix with at most MOST rows and columns, where cells are means of what they stand for. */
function reduced(map: HeatMap): HeatMap {
  const steps = [map.rows.length, map.columns.length].map((count) => Math.ceil(count / MOST));
  if (steps.every((step) => step <= 1)) return map;
  const [byRow, byColumn] = steps;
  const every = (names: readonly string[], step: number) => names.filter((_, i) => i % step === 0);
  const columns = every(map.columns, byColumn);
  return {
    ...map,
    rows: every(map.rows, byRow),
    columns,
    values: every(map.rows, byRow).map((_, r) =>
      columns.map((__, c) =>
        mean(
          map.values
            .slice(r * byRow, (r + 1) * byRow)
            .flatMap((row) => row.slice(c * byColumn, (c + 1) * byColumn).filter(isKnown)),
        ),
      ),
    ),
  };
}

function isKnown(value: number | undefined): value is number {
  return value !== undefined && Number.isFinite(value);
}

/** Numbers of cells, all with as many digits: whole ones, two behind the point, or what is left of very small ones. */
function cellTextOf(values: readonly number[]): (value: number) => string {
  const most = max(values, Math.abs) ?? 0;
  if (values.every(Number.isInteger)) return numberText;
  if (most >= 10_000 || most < 0.05) return (value) => numberText(Number(value.toPrecision(2)));
  const digits = most >= 100 ? 0 : most >= 10 ? 1 : 2;
  return (value) => value.toFixed(digits).replace('-', '−');
}

function mapWords({
  title,
  rowLabel = 'rows',
  columnLabel = 'columns',
  rows,
  columns,
  values,
}: HeatMap): string {
  const known = values.flatMap((row, r) =>
    row.flatMap((value, c) => (isKnown(value) ? [{ value, at: `${rows[r]}, ${columns[c]}` }] : [])),
  );
  const name = title ? `${title}: ` : '';
  const size = `${name}${rows.length} by ${columns.length}, ${rowLabel} by ${columnLabel}`;
  if (known.length === 0) return `${size}: no data.`;
  const lowest = known.reduce((least, one) => (one.value < least.value ? one : least));
  const highest = known.reduce((most, one) => (one.value > most.value ? one : most));
  const average = known.reduce((sum, { value }) => sum + value / known.length, 0);
  return `${size}: mean ${numberText(average)}, lowest ${numberText(lowest.value)} at ${lowest.at}, highest ${numberText(highest.value)} at ${highest.at}.`;
}
