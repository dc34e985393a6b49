/** The loss curves of a run as an SVG picture, readable on light and on dark ground. */
import type { LossCurves, LossPoint } from './curves.js';

const WIDTH = 720;
const HEIGHT = 400;
const MARGIN = { left: 56, right: 16, top: 36, bottom: 44 };
/** More points than pixels show nothing more. */
const MAX_POINTS = 1000;
/** Weight of the newest loss in the smooth curve. */
const SMOOTHING = 0.1;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #333 }
  .grid { stroke: #8884; stroke-width: 1 }
  .raw, .train, .heldOut { fill: none; stroke-linejoin: round }
  .raw { stroke: #1f77b4; stroke-opacity: 0.3 }
  .train { stroke: #1f77b4; stroke-width: 2 }
  .heldOut { stroke: #d95f02; stroke-width: 2 }
  .dot { fill: #d95f02 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } }
`;

/** Draws the training loss of each step, its exponential mean, and the held-out losses; undefined without any. */
export function lossCurveSvg({ train, heldOut }: LossCurves, title: string): string | undefined {
  const all = [...train, ...heldOut].filter(({ loss }) => Number.isFinite(loss));
  if (all.length === 0) return undefined;
  const lastStep = all.reduce((max, { step }) => Math.max(max, step), 1);
  const steps = ticks(0, lastStep, 6).filter((tick) => tick <= lastStep);
  const highest = all.reduce((max, { loss }) => Math.max(max, loss), Number.NEGATIVE_INFINITY);
  const lowest = all.reduce((min, { loss }) => Math.min(min, loss), Number.POSITIVE_INFINITY);
  const losses = ticks(lowest, highest, 5);
  const x = scale(0, lastStep, MARGIN.left, WIDTH - MARGIN.right);
  const y = scale(losses[0], losses[losses.length - 1], HEIGHT - MARGIN.bottom, MARGIN.top);
  const path = (points: readonly LossPoint[]) =>
    thinned(points)
      .map(({ step, loss }, i) => `${i === 0 ? 'M' : 'L'}${x(step).toFixed(1)},${y(loss).toFixed(1)}`)
      .join('');
  const curve = (name: string, points: readonly LossPoint[]) =>
    points.length > 1 ? [`<path class="${name}" d="${path(points)}"/>`] : [];
  const bottom = HEIGHT - MARGIN.bottom;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(title)}">`,
    `<style>${STYLE}</style>`,
    ...losses.flatMap((tick) => [
      `<line class="grid" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y(tick)}" y2="${y(tick)}"/>`,
      `<text x="${MARGIN.left - 8}" y="${y(tick) + 4}" text-anchor="end">${tick}</text>`,
    ]),
    ...steps.map((tick) => `<text x="${x(tick)}" y="${bottom + 18}" text-anchor="middle">${tick}</text>`),
    `<text x="${WIDTH - MARGIN.right}" y="${HEIGHT - 8}" text-anchor="end">step</text>`,
    `<text x="${MARGIN.left}" y="20">${escaped(title)}</text>`,
    ...curve('raw', train),
    ...curve('train', smooth(train)),
    ...curve('heldOut', heldOut),
    ...thinned(heldOut).map(
      ({ step, loss }) => `<circle class="dot" r="3" cx="${x(step).toFixed(1)}" cy="${y(loss).toFixed(1)}"/>`,
    ),
    `<text x="${WIDTH - MARGIN.right}" y="20" text-anchor="end"><tspan style="fill:#1f77b4">training</tspan>${
      heldOut.length > 0 ? '  <tspan style="fill:#d95f02">held out</tspan>' : ''
    }</text>`,
    '</svg>\n',
  ].join('\n');
}

function scale(from: number, to: number, low: number, high: number): (value: number) => number {
  return (value) => low + ((value - from) / (to - from || 1)) * (high - low);
}

/** Round numbers, about `count`, of which the first and the last enclose the range. */
function ticks(from: number, to: number, count: number): number[] {
  const raw = (to - from || Math.abs(to) || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10) * power;
  const first = Math.floor(from / size);
  const last = Math.max(first + 1, Math.ceil(to / size));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * size).toPrecision(10)));
}

function smooth(points: readonly LossPoint[]): LossPoint[] {
  let sum = 0;
  let weight = 0;
  return points.map(({ step, loss }) => {
    sum += SMOOTHING * (loss - sum);
    weight += SMOOTHING * (1 - weight);
    return { step, loss: sum / weight };
  });
}

function thinned(points: readonly LossPoint[]): LossPoint[] {
  const finite = points.filter(({ loss }) => Number.isFinite(loss));
  const every = Math.ceil(finite.length / MAX_POINTS);
  return finite.filter((_, i) => i % every === 0 || i === finite.length - 1);
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
