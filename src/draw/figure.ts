/** What all pictures have: a ground, a title, words for who does not see them, and a legend. */
import { line, symbol } from 'd3-shape';
import { coordinate, element, escaped, textAt } from './svg.js';
import { clipped, textWidth, wrappedText } from './textSize.js';
import { type Look, styleOf, type Theme } from './theme.js';

export const TEXT = 13;
export const SMALL = 11.5;
const TITLE = 16;
const EDGE = 16;

/** What every picture may say. */
export interface FigureWords {
  title: string;
  /** A line below the title: model, data, command. */
  subtitle?: string;
  /** In words what the picture shows; without it the figures are told. */
  description?: string;
}

export interface LegendEntry {
  name: string;
  look: Look;
  kind: 'line' | 'dashes' | 'faint' | 'points' | 'bars';
}

interface FigureInput extends FigureWords {
  width: number;
  theme: Theme;
  legend?: readonly LegendEntry[];
  /** Draws what is below the words, from `top` on, and says where it ends. */
  body: (top: number) => { drawn: readonly string[]; bottom: number; description: string };
}

/** A whole SVG document. */
export function figure({
  title,
  subtitle,
  description,
  width,
  theme,
  legend = [],
  body,
}: FigureInput): string {
  const room = width - 2 * EDGE;
  const head: string[] = [];
  let y = 8;
  for (const words of wrappedText(title, room, TITLE, 2)) {
    y += 20;
    head.push(textAt(EDGE, y, words, { 'font-size': TITLE, 'font-weight': 600 }));
  }
  for (const words of subtitle === undefined ? [] : wrappedText(subtitle, room, SMALL, 2)) {
    y += 17;
    head.push(textAt(EDGE, y, words, { 'font-size': SMALL, class: 'muted' }));
  }
  const keys = legendRows(legend, y, width);
  const { drawn, bottom, description: told } = body(keys.bottom);
  const height = Math.ceil(bottom);
  return `${element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: 'img',
      class: `lowrank-${theme}`,
      'aria-label': title,
    },
    '\n',
    `${element('title', {}, escaped(title))}\n`,
    `${element('desc', {}, escaped(description ?? told))}\n`,
    `<style>${styleOf(theme)}</style>\n`,
    `${element('rect', { class: 'ground', width, height })}\n`,
    [...head, ...keys.drawn, ...drawn].join('\n'),
    '\n',
  )}\n`;
}

const KEY = 38;
const KEY_GAP = 6;
const ROW = 20;

function legendRows(
  entries: readonly LegendEntry[],
  top: number,
  width: number,
): { drawn: string[]; bottom: number } {
  if (entries.length === 0) return { drawn: [], bottom: top + 4 };
  const drawn: string[] = [];
  let [x, y] = [EDGE, top + ROW + 2];
  for (const entry of entries) {
    const name = clipped(entry.name, width - 2 * EDGE - KEY - KEY_GAP, TEXT);
    const wide = KEY + KEY_GAP + textWidth(name, TEXT);
    if (x > EDGE && x + wide > width - EDGE) [x, y] = [EDGE, y + ROW];
    drawn.push(element('g', { class: 'key' }, key(entry, x, y - 4.5), nameOf(name, x + KEY + KEY_GAP, y)));
    x += wide + 18;
  }
  return { drawn, bottom: y + 4 };
}

function nameOf(name: string, x: number, y: number): string {
  return textAt(x, y, name, { 'font-size': TEXT });
}

/** A sample of what a series is drawn with. */
function key({ look, kind }: LegendEntry, x: number, y: number): string {
  if (kind === 'points') return marker(look, x + KEY / 2, y);
  if (kind === 'bars') return bar(look, x, y - 6, KEY, 12);
  const drawn = curve(
    [
      [x, y],
      [x + KEY, y],
    ],
    look,
    kind === 'faint',
  );
  return kind === 'line' ? drawn + marker(look, x + KEY / 2, y) : drawn;
}

/** A line through pixels. */
export function curve(pixels: readonly (readonly [number, number])[], look: Look, faint = false): string {
  const path = line()
    .x(([x]) => x)
    .y(([, y]) => y)
    .digits(1)(pixels as [number, number][]);
  return element('path', {
    class: faint ? 'curve faint' : 'curve',
    fill: 'none',
    stroke: look.colour,
    'stroke-width': faint ? 1 : 2,
    'stroke-opacity': faint ? 0.5 : undefined,
    'stroke-dasharray': faint ? undefined : look.dash,
    'stroke-linejoin': 'round',
    d: path ?? '',
  });
}

/** The mark of a series at a pixel, with a rim that parts it from what is below. */
export function marker(look: Look, x: number, y: number, size = 46): string {
  return element('path', {
    class: 'mark halo',
    fill: look.colour,
    'stroke-width': 1,
    transform: `translate(${coordinate(x)},${coordinate(y)})`,
    d: symbol(look.marker, size).digits(2)() ?? '',
  });
}

/** A bar, hatched by its look with lines of the ground's colour. */
export function bar({ colour, hatch }: Look, x: number, y: number, width: number, height: number): string {
  const filled = element('rect', { class: 'bar', fill: colour, x, y, width, height });
  if (hatch === undefined || width <= 0 || height <= 0) return filled;
  return (
    filled +
    element('path', {
      class: 'halo',
      fill: 'none',
      'stroke-width': 1.2,
      'stroke-opacity': 0.85,
      d: hatching(hatch, x, y, width, height),
    })
  );
}

/** Lines across a box at an angle of 0, 45, 90 or 135 degrees, each cut at its edges. */
export function hatching(
  angle: number,
  x: number,
  y: number,
  width: number,
  height: number,
  gap = 6,
): string {
  const lines: string[] = [];
  const add = (x1: number, y1: number, x2: number, y2: number) =>
    lines.push(`M${coordinate(x1)},${coordinate(y1)}L${coordinate(x2)},${coordinate(y2)}`);
  if (angle === 0) for (let at = gap / 2; at < height; at += gap) add(x, y + at, x + width, y + at);
  else if (angle === 90) for (let at = gap / 2; at < width; at += gap) add(x + at, y, x + at, y + height);
  else {
    // u + v = at, where u counts from the left or the right edge.
    for (let at = gap / 2; at < width + height; at += gap) {
      const [u1, u2] = [Math.max(0, at - height), Math.min(width, at)];
      const across = (u: number) => (angle === 45 ? x + u : x + width - u);
      add(across(u1), y + at - u1, across(u2), y + at - u2);
    }
  }
  return lines.join('');
}
