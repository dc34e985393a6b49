/** Line charts as SVG pictures, readable on light and on dark ground. */

const WIDTH = 720;
const HEIGHT = 400;
const MARGIN = { left: 56, right: 16, top: 36, bottom: 44 };
/** More points than pixels show nothing more. */
const MAX_POINTS = 1000;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #333 }
  .grid { stroke: #8884; stroke-width: 1 }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round }
  .faint { stroke-opacity: 0.3; stroke-width: 1 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } }
`;

export type Point = readonly [x: number, y: number];

/** A curve of a chart. Points that are not finite are left out. */
export interface Series {
  points: readonly Point[];
  colour: string;
  /** What the legend says; without it the curve has no entry there. */
  name?: string;
  faint?: boolean;
  /** A dot on each point. */
  dots?: boolean;
}

export interface Chart {
  title: string;
  /** What stands below the axis. */
  xLabel: string;
  x: { from: number; to: number; ticks: readonly { at: number; label: string }[] };
  y: { from: number; to: number };
  series: readonly Series[];
}

/** Draws a chart; what lies outside of its range is cut at the frame. */
export function chartSvg({ title, xLabel, x: horizontal, y: vertical, series }: Chart): string {
  const bottom = HEIGHT - MARGIN.bottom;
  const right = WIDTH - MARGIN.right;
  const yTicks = ticks(vertical.from, vertical.to, 5);
  const x = scale(horizontal.from, horizontal.to, MARGIN.left, right);
  const y = scale(yTicks[0], yTicks[yTicks.length - 1], bottom, MARGIN.top);
  const place = ([px, py]: Point) => [x(px).toFixed(1), y(py).toFixed(1)] as const;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(title)}">`,
    `<style>${STYLE}</style>`,
    `<clipPath id="frame"><rect x="${MARGIN.left}" y="${MARGIN.top}" width="${right - MARGIN.left}" height="${bottom - MARGIN.top}"/></clipPath>`,
    ...yTicks.flatMap((tick) => [
      `<line class="grid" x1="${MARGIN.left}" x2="${right}" y1="${y(tick)}" y2="${y(tick)}"/>`,
      `<text x="${MARGIN.left - 8}" y="${y(tick) + 4}" text-anchor="end">${tick}</text>`,
    ]),
    ...horizontal.ticks.map(
      ({ at, label }) => `<text x="${x(at)}" y="${bottom + 18}" text-anchor="middle">${label}</text>`,
    ),
    `<text x="${right}" y="${HEIGHT - 8}" text-anchor="end">${escaped(xLabel)}</text>`,
    `<text x="${MARGIN.left}" y="20">${escaped(title)}</text>`,
    ...series.flatMap(({ points, colour, faint, dots }) => {
      const shown = thinned(points).map(place);
      const path = shown.map(([px, py], i) => `${i === 0 ? 'M' : 'L'}${px},${py}`).join('');
      return [
        ...(shown.length > 1
          ? [
              `<path class="line${faint ? ' faint' : ''}" clip-path="url(#frame)" stroke="${colour}" d="${path}"/>`,
            ]
          : []),
        ...(dots ? shown.map(([px, py]) => `<circle r="3" fill="${colour}" cx="${px}" cy="${py}"/>`) : []),
      ];
    }),
    `<text x="${right}" y="20" text-anchor="end">${series
      .flatMap(({ name, colour }) =>
        name === undefined ? [] : [`<tspan style="fill:${colour}">${escaped(name)}</tspan>`],
      )
      .join('  ')}</text>`,
    '</svg>\n',
  ].join('\n');
}

function scale(from: number, to: number, low: number, high: number): (value: number) => number {
  return (value) => low + ((value - from) / (to - from || 1)) * (high - low);
}

/** Round numbers, about `count`, of which the first and the last enclose the range. */
export function ticks(from: number, to: number, count: number): number[] {
  const raw = (to - from || Math.abs(to) || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10) * power;
  const first = Math.floor(from / size);
  const last = Math.max(first + 1, Math.ceil(to / size));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * size).toPrecision(10)));
}

function thinned(points: readonly Point[]): readonly Point[] {
  const finite = points.filter(([, y]) => Number.isFinite(y));
  const every = Math.ceil(finite.length / MAX_POINTS);
  return finite.filter((_, i) => i % every === 0 || i === finite.length - 1);
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
