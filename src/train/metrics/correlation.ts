/** How well predicted numbers go with the true ones. Equal to scipy. */

/**
 * Pearson's correlation, −1 to 1. `undefined` (so that JSON leaves it out) where there is none: fewer than two rows, numbers
 * that are all the same on one side, or one that is not finite. Throws RangeError where the lengths differ.
 */
export function pearson(truth: ArrayLike<number>, predicted: ArrayLike<number>): number | undefined {
  if (truth.length !== predicted.length)
    throw new RangeError(`${truth.length} true numbers, but ${predicted.length} predicted ones`);
  const [a, b] = [deviations(truth), deviations(predicted)];
  if (!a || !b) return undefined;
  let product = 0;
  for (let i = 0; i < a.length; i++) product += a[i] * b[i];
  return Math.min(1, Math.max(-1, product));
}

/** Spearman's correlation: Pearson's of the ranks. Equal numbers share the mean of their ranks. `undefined` as `pearson`'s. */
export function spearman(truth: ArrayLike<number>, predicted: ArrayLike<number>): number | undefined {
  if (![truth, predicted].every((all) => Array.from(all).every(Number.isFinite))) return undefined;
  return pearson(ranks(truth), ranks(predicted));
}

/** The differences from the mean, as a vector of length 1. `undefined` where it has no direction. */
function deviations(numbers: ArrayLike<number>): Float64Array | undefined {
  const all = Float64Array.from(numbers);
  // Of equal numbers the mean may differ in the last bit, which is no direction.
  if (all.every((x) => x === all[0])) return undefined;
  const mean = all.reduce((sum, x) => sum + x / all.length, 0);
  const centred = all.map((x) => x - mean);
  // Squares of large numbers would overflow, those of small ones vanish.
  const largest = centred.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const scaled = centred.map((x) => x / largest);
  const norm = Math.sqrt(scaled.reduce((sum, x) => sum + x * x, 0));
  return Number.isFinite(norm) && norm > 0 ? scaled.map((x) => x / norm) : undefined;
}

function ranks(numbers: ArrayLike<number>): Float64Array {
  const order = Array.from({ length: numbers.length }, (_, i) => i).sort((i, j) => numbers[i] - numbers[j]);
  const result = new Float64Array(numbers.length);
  for (let first = 0; first < order.length; ) {
    let end = first + 1;
    while (end < order.length && numbers[order[end]] === numbers[order[first]]) end++;
    for (let i = first; i < end; i++) result[order[i]] = (first + end - 1) / 2;
    first = end;
  }
  return result;
}
