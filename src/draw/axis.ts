/** Axes: from values to places, and the round numbers between. */
import { extent } from 'd3-array';
import { type ScaleContinuousNumeric, scaleLinear, scaleLog } from 'd3-scale';

/** What runs along a side of a chart. */
export interface Axis {
  /** What is measured, with its unit. */
  label: string;
  /** A logarithmic axis: values that are not above 0 have no place on it. */
  log?: boolean;
  /** Ends, where they are not those of the values. */
  from?: number;
  to?: number;
  /** Where its numbers stand, instead of at round ones. */
  ticks?: readonly number[];
}

export interface Tick {
  at: number;
  label: string;
}

/** An axis with its place in a picture. */
export interface PlacedAxis extends Axis {
  /** The pixel of a value; undefined where the axis has none. */
  place(value: number): number | undefined;
  domain: readonly [number, number];
  tickList: readonly Tick[];
}

/** Widest span that still has a width as a number. */
const HUGE = 8e307;
/** Spans below this share of their values cannot be told apart in labels. */
const NARROW = 1e-9;

export interface PlaceAxisOptions {
  /** Pixels of its two ends. */
  range: readonly [number, number];
  /** How many numbers it has room for. */
  count: number;
  /** Whether it ends at round numbers. */
  nice?: boolean;
  /** Share of its length that stays free at each end. */
  padding?: number;
}

/** Puts an axis around values; those that are not finite, or not above 0 on a logarithmic one, do not count. */
export function placeAxis(
  asked: Axis,
  values: Iterable<number>,
  { range, count, nice = false, padding = 0 }: PlaceAxisOptions,
): PlacedAxis {
  const { log = false } = asked;
  const has = (value: number) => Number.isFinite(value) && (!log || value > 0);
  const end = (value: number | undefined) => (value !== undefined && has(value) ? value : undefined);
  const axis = { ...asked, from: end(asked.from), to: end(asked.to) };
  const [low, high] = endsOf(axis, [...values].filter(has));
  const scale = padded(log ? scaleLog() : scaleLinear(), low, high, padding).range(range);
  // A logarithmic axis is rounded to whole decades only where it spans some: 90 to 110 stays so.
  if (nice && axis.ticks === undefined && (!log || high / low > 50)) rounded(scale, count);
  // Ends that were asked for stay where they are.
  const [from, to] = scale.domain();
  scale.domain([
    axis.from !== undefined && axis.from < to ? axis.from : from,
    axis.to !== undefined && axis.to > from ? axis.to : to,
  ]);
  const [first, last] = scale.domain();
  const slack = (last - first) * 1e-9;
  return {
    ...axis,
    domain: [first, last],
    place: (value) => (has(value) ? scale(clamped(value)) : undefined),
    tickList: ticksOf(axis, scale, count).filter(({ at }) => at >= first - slack && at <= last + slack),
  };
}

function rounded(scale: Scale, count: number): void {
  (scale as ReturnType<typeof scaleLinear>).nice(count);
}

/** The value, or the largest number of its sign with which pictures can reckon. */
export function clamped(value: number): number {
  return Math.max(-HUGE, Math.min(HUGE, value));
}

/** The ends of an axis: apart from each other, whatever the values are. */
function endsOf({ from, to, log }: Axis, values: readonly number[]): [number, number] {
  const [least, most] = extent(values);
  let low = clamped(from ?? least ?? (log ? 1 : 0));
  let high = clamped(to ?? most ?? (log ? 10 : 1));
  if (log) {
    low = low > 0 ? low : 1;
    high = high > 0 ? high : low;
  }
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (high - low > NARROW * size) return [low, high];
  if (log) return [low / 2, low * 2];
  if (low === 0) return [0, 1];
  // Around equal values; an end that was asked for stays.
  if (from !== undefined) return [low, low + Math.abs(low) / 2];
  return [low - Math.abs(low) / 2, low + Math.abs(low) / 2];
}

type Scale = ScaleContinuousNumeric<number, number>;

function padded(scale: Scale, low: number, high: number, share: number): Scale {
  if (share === 0) return scale.domain([low, high]);
  const place = scale.domain([low, high]).range([0, 1]);
  return scale.domain([place.invert(-share), place.invert(1 + share)]);
}

function ticksOf({ log, ticks }: Axis, scale: Scale, count: number): Tick[] {
  const [low, high] = scale.domain();
  if (ticks !== undefined) return labelled([...ticks], (at) => numberText(at));
  if (!log) {
    const places = scale.ticks(count);
    return labelled(places, evenLabels(places));
  }
  return labelled(logTicks(low, high, count), (at) => numberText(at));
}

function labelled(places: readonly number[], label: (at: number) => string): Tick[] {
  return places.map((at) => ({ at, label: label(at) }));
}

/** Powers of ten, some only where they are many, or 1-2-5 and finer steps between them where they are few. */
function logTicks(low: number, high: number, count: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low) + 1e-9), Math.ceil(Math.log10(high) - 1e-9)];
  const within = (places: number[]) =>
    places.filter((at) => at >= low * (1 - 1e-9) && at <= high * (1 + 1e-9));
  const between = (factors: readonly number[]) =>
    within(
      Array.from({ length: last - first + 1 }, (_, i) => first + i).flatMap((power) =>
        factors.map((factor) => Number(`${factor}e${power}`)),
      ),
    );
  const decades = between([1]);
  if (decades.length >= 3 || decades.length >= count) {
    const every = Math.ceil(decades.length / (count + 1));
    return decades.filter((_, i) => i % every === 0);
  }
  for (const factors of [
    [1, 2, 5],
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  ]) {
    const places = between(factors);
    if (places.length >= 3) return places;
  }
  // Less than one step of a decade: as on a linear axis.
  return within(scaleLinear().domain([low, high]).ticks(Math.min(count, 4)));
}

/** Labels of evenly spaced numbers, with as many digits as tell them apart. */
function evenLabels(places: readonly number[]): (at: number) => string {
  const size = Math.max(...places.map(Math.abs), 0);
  const step = places.length > 1 ? Math.abs(places[1] - places[0]) : size;
  const unit = unitOf(size);
  if (unit !== undefined) {
    const digits = digitsOf(step / unit.size);
    return (at) => (at === 0 ? '0' : `${minus((at / unit.size).toFixed(digits))}${unit.name}`);
  }
  if (size >= TINY || size === 0) {
    const digits = digitsOf(step);
    return (at) => minus(at.toFixed(Math.min(digits, 12)));
  }
  return (at) => numberText(at);
}

function digitsOf(step: number): number {
  return step > 0 ? Math.max(0, Math.min(12, -Math.floor(Math.log10(step) + 1e-9))) : 0;
}

const TINY = 0.001;
const UNITS = [
  { size: 1e12, name: 'T' },
  { size: 1e9, name: 'B' },
  { size: 1e6, name: 'M' },
  { size: 1e3, name: 'k' },
] as const;

/** The unit of numbers up to `size`; undefined where they need none, or are beyond all. */
function unitOf(size: number): (typeof UNITS)[number] | undefined {
  return size >= 10_000 && size < 1e15 ? UNITS.find((unit) => size >= unit.size) : undefined;
}

/** A number for people: 0.25, 1500, 37.7M, 2e-4. At most four digits count. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  const unit = unitOf(size);
  if (unit !== undefined) return `${minus(short(value / unit.size))}${unit.name}`;
  if (size === 0 || (size >= TINY && size < 10_000)) return minus(short(value));
  return minus(exponent(value));
}

function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function exponent(value: number): string {
  const [digits, power] = value.toExponential(2).split('e');
  return `${Number(digits)}e${Number(power)}`;
}

function minus(text: string): string {
  return text.replace(/^-/, '−');
}
