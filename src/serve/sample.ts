import type { Rng } from '../base/rng.js';
import { argmax } from './processors.js';

/** Draws a token by the probabilities that scores stand for. */
export function sample(scores: Float32Array, rng: Rng): number {
  const top = scores[argmax(scores)];
  const weights = scores.map((v) => Math.exp(v - top));
  let left = rng.uniform() * weights.reduce((total, weight) => total + weight, 0);
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    last = i;
    left -= weights[i];
    if (left < 0) break;
  }
  return last;
}
