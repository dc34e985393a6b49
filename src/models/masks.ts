/** What positions see of one another, as what is added to attention's scores. */

/** Score of a position that may not be seen; far below any real one, and finite, so that no row is NaN. */
export const HIDDEN = -1e9;

/**
 * Fills [groups·length, prefix + length] so that query i sees keys up to its own and no further back than the window, or
 * than the column `starts[i]` of packed rows; of the prefix, which stands before each example, what the window reaches.
 */
export function fillCausalMask(
  data: Float32Array,
  groups: number,
  length: number,
  window: number | null,
  starts?: Int32Array,
  prefix = 0,
): void {
  const keys = prefix + length;
  for (let i = 0; i < length; i++) {
    const row = data.subarray(i * keys, (i + 1) * keys);
    const start = starts?.[i] ?? 0;
    const first = Math.max(start, window === null ? 0 : i - window + 1);
    const reached = window === null ? 0 : Math.max(0, prefix + i - start - window + 1);
    row.fill(HIDDEN);
    row.fill(0, Math.min(reached, prefix), prefix);
    row.fill(0, prefix + first, prefix + i + 1);
  }
  for (let g = 1; g < groups; g++) data.copyWithin(g * length * keys, 0, length * keys);
}

/**
 * Mask [groups·n, room + n] of n new queries at positions from `start`. Keys: the cache's room, filled up to `start`, then
 * the new ones.
 */
export function decodingMask(
  groups: number,
  n: number,
  start: number,
  room: number,
  window: number | null,
): Float32Array {
  const keys = room + n;
  const mask = new Float32Array(groups * n * keys).fill(HIDDEN);
  for (let i = 0; i < n; i++) {
    const row = mask.subarray(i * keys, (i + 1) * keys);
    const first = window === null ? 0 : Math.max(0, start + i - window + 1);
    row.fill(0, Math.min(first, start), start);
    row.fill(0, room + Math.max(0, first - start), room + i + 1);
  }
  for (let g = 1; g < groups; g++) mask.copyWithin(g * n * keys, 0, n * keys);
  return mask;
}

/** Fills [prefix + length] so that all of a row is seen but its padding, which begins at `real`. */
export function fillWholeMask(data: Float32Array, real: number, prefix: number): void {
  data.fill(0, 0, prefix + real);
  data.fill(HIDDEN, prefix + real);
}

/**
 * Fills [groups·length, prefix + length] so that query i sees the real keys less than `window` away from it on either side,
 * of packed rows those of its own example (`starts` has where each begins), and the whole prefix.
 */
export function fillMutualMask(
  data: Float32Array,
  groups: number,
  length: number,
  window: number | null,
  real: number,
  starts?: Int32Array,
  prefix = 0,
): void {
  const keys = prefix + length;
  const reach = window ?? length;
  data.fill(HIDDEN, 0, length * keys);
  for (let i = 0; i < length; i++) {
    data.fill(0, i * keys, i * keys + prefix);
    const last = Math.min(real, i + reach);
    for (let j = Math.max(0, i - reach + 1); j < last; j++) {
      if (!starts || starts[j] === starts[i]) data[i * keys + prefix + j] = 0;
    }
  }
  for (let g = 1; g < groups; g++) data.copyWithin(g * length * keys, 0, length * keys);
}
