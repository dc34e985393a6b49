/** Rotary position embeddings (Su et al., arXiv:2104.09864) and the scalings by which their reach is extended. */
import type { RopeConfig } from './model.js';

/** Inverse frequencies, one a pair of dimensions, for sequences of `length` positions. */
export function inverseFrequencies({ theta, dim, scaling }: RopeConfig, length: number): Float32Array {
  const plain = (base: number) =>
    Float32Array.from({ length: dim / 2 }, (_, i) => 1 / base ** ((2 * i) / dim));
  switch (scaling.type) {
    case 'default':
      return plain(theta);
    case 'linear':
      return plain(theta).map((f) => f / scaling.factor);
    case 'dynamic': {
      // The base grows with the length (NTK-aware scaling).
      const { factor, maxPositions } = scaling;
      const reach = Math.max(length, maxPositions) / maxPositions;
      return plain(theta * (factor * reach - (factor - 1)) ** (dim / (dim - 2)));
    }
    case 'llama3': {
      // Long wavelengths are stretched by the factor, short ones kept, those between blended (Llama 3.1).
      const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
      return plain(theta).map((f) => {
        const turns = (originalMaxPositions * f) / (2 * Math.PI);
        if (turns < lowFreqFactor) return f / factor;
        if (turns > highFreqFactor) return f;
        const blend = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
        return (1 - blend) * (f / factor) + blend * f;
      });
    }
    case 'yarn': {
      // Dimensions that turn often within the original context are kept, those that turn little are stretched.
      const { factor, betaFast, betaSlow, truncate, originalMaxPositions } = scaling;
      const turning = (turns: number) =>
        (dim * Math.log(originalMaxPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
      const [first, last] = [turning(betaFast), turning(betaSlow)];
      const low = Math.max(truncate ? Math.floor(first) : first, 0);
      const high = Math.min(truncate ? Math.ceil(last) : last, dim - 1);
      const width = low === high ? 0.001 : high - low;
      return plain(theta).map((f, i) => {
        const stretched = Math.min(1, Math.max(0, (i - low) / width));
        return (f / factor) * stretched + f * (1 - stretched);
      });
    }
    case 'longrope': {
      const { shortFactors, longFactors, originalMaxPositions } = scaling;
      const factors = length > originalMaxPositions ? longFactors : shortFactors;
      return plain(theta).map((f, i) => f / factors[i]);
    }
  }
}

/** Which lengths have the frequencies that `length` has, first and last. */
export function lengthsLike({ scaling }: RopeConfig, length: number): readonly [number, number] {
  const all = Number.POSITIVE_INFINITY;
  switch (scaling.type) {
    case 'dynamic':
      return length <= scaling.maxPositions ? [1, scaling.maxPositions] : [length, length];
    case 'longrope': {
      const { originalMaxPositions: short } = scaling;
      return length <= short ? [1, short] : [short + 1, all];
    }
    default:
      return [1, all];
  }
}

/** cos and sin of position × frequency for sequences of `length` positions, each [positions, dim/2]. */
export function ropeTables(
  config: RopeConfig,
  length: number,
  positions: number,
): { cos: Float32Array; sin: Float32Array } {
  const frequencies = inverseFrequencies(config, length);
  const { scaling } = config;
  const scale = 'attentionFactor' in scaling ? scaling.attentionFactor : 1;
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < half; i++) {
      // The angle in float32, as the reference implementations have it.
      const angle = Math.fround(p * frequencies[i]);
      cos[p * half + i] = Math.cos(angle) * scale;
      sin[p * half + i] = Math.sin(angle) * scale;
    }
  }
  return { cos, sin };
}
