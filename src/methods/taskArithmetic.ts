/**
 * Ways to make one tensor out of several of the same size, element by element, as PEFT's utils/merge_utils.py has them:
 * task arithmetic (arXiv:2212.04089), TIES (arXiv:2306.01708) and DARE (arXiv:2311.03099).
 */
import type { Rng } from '../base/rng.js';

/** How the sign of an element is elected: by the sum of its values, or by the number of tensors that have it. */
export type MajoritySign = 'total' | 'frequency';

/** Σ weight·tensor. */
export function weightedSum(tensors: readonly Float32Array[], weights: readonly number[]): Float32Array {
  return tensors[0].map((_, i) => tensors.reduce((sum, t, n) => sum + weights[n] * t[i], 0));
}

/** The floor(density·n) elements of largest magnitude, zero elsewhere; of equal ones the first. */
export function keepLargest(tensor: Float32Array, density: number): Float32Array {
  if (density >= 1) return tensor;
  const kept = Math.floor(density * tensor.length);
  const order = Uint32Array.from(tensor.keys()).sort(
    (a, b) => Math.abs(tensor[b]) - Math.abs(tensor[a]) || a - b,
  );
  const out = new Float32Array(tensor.length);
  for (const i of order.subarray(0, kept)) out[i] = tensor[i];
  return out;
}

/** Each element with probability `density`, over the density, so that the expected value stays; zero elsewhere. */
export function keepRandom(tensor: Float32Array, density: number, rng: Rng): Float32Array {
  if (density >= 1) return tensor;
  return tensor.map((value) => (rng.uniform() < density ? value / density : 0));
}

/**
 * Σ weight·tensor over those tensors that have the elected sign at an element, over their number. Zeros have no sign
 * and no part; an even vote elects plus.
 */
export function electedMean(
  tensors: readonly Float32Array[],
  weights: readonly number[],
  majority: MajoritySign,
): Float32Array {
  return tensors[0].map((_, i) => {
    let vote = 0;
    for (const t of tensors) vote += majority === 'total' ? t[i] : Math.sign(t[i]);
    const elected = vote >= 0 ? 1 : -1;
    let sum = 0;
    let count = 0;
    for (const [n, t] of tensors.entries()) {
      if (Math.sign(t[i]) !== elected) continue;
      sum += weights[n] * t[i];
      count++;
    }
    return sum / Math.max(1, count);
  });
}
