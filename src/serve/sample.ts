import type { Rng } from '../base/rng.js';

export interface SamplingOptions {
  /** 0 takes the most likely token; 1 samples from the model's own distribution. */
  temperature: number;
  /** Only the k most likely tokens; 0 is no limit. */
  topK: number;
  /** Only the most likely tokens that together have this probability; 1 is no limit (Holtzman et al., arXiv:1904.09751). */
  topP: number;
}

/** Index of the largest value; the first of equals. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** Draws a token from logits: temperature, then top-k, then top-p of what is left, as transformers does. */
export function sample(logits: Float32Array, { temperature, topK, topP }: SamplingOptions, rng: Rng): number {
  if (temperature === 0) return argmax(logits);
  const top = logits[argmax(logits)];
  const weights = logits.map((v) => Math.exp((v - top) / temperature));
  const floor = weightFloor(weights, topK, topP);
  let total = 0;
  for (const w of weights) if (w >= floor) total += w;
  let left = rng.uniform() * total;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] < floor) continue;
    last = i;
    left -= weights[i];
    if (left < 0) break;
  }
  return last;
}

/** The smallest weight that both limits keep. */
function weightFloor(weights: Float32Array, topK: number, topP: number): number {
  if (topK <= 0 && topP >= 1) return 0;
  const sorted = weights.slice().sort().reverse();
  const count = topK > 0 ? Math.min(topK, sorted.length) : sorted.length;
  if (topP >= 1) return sorted[count - 1];
  let total = 0;
  for (let i = 0; i < count; i++) total += sorted[i];
  let mass = 0;
  for (let i = 0; i < count; i++) {
    mass += sorted[i];
    if (mass >= topP * total) return sorted[i];
  }
  return sorted[count - 1];
}
