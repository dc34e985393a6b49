import type { RopeConfig } from './model.js';

/** Inverse frequencies of the rotary embedding, one a pair of dimensions, with the config's scaling. */
export function inverseFrequencies({ theta, scaling }: RopeConfig, headDim: number): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const f = 1 / theta ** ((2 * i) / headDim);
    switch (scaling.type) {
      case 'default':
        return f;
      case 'linear':
        return f / scaling.factor;
      case 'llama3': {
        // Long wavelengths are stretched by the factor, short ones kept, those between blended (Llama 3.1).
        const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
        const turns = (originalMaxPositions * f) / (2 * Math.PI);
        if (turns < lowFreqFactor) return f / factor;
        if (turns > highFreqFactor) return f;
        const blend = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
        return (1 - blend) * (f / factor) + blend * f;
      }
    }
  });
}

/** cos and sin of position × frequency, each [positions, headDim/2]. */
export function ropeTables(
  config: RopeConfig,
  headDim: number,
  positions: number,
): { cos: Float32Array; sin: Float32Array } {
  const frequencies = inverseFrequencies(config, headDim);
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < half; i++) {
      // The angle in float32, as the reference implementations have it.
      const angle = Math.fround(p * frequencies[i]);
      cos[p * half + i] = Math.cos(angle);
      sin[p * half + i] = Math.sin(angle);
    }
  }
  return { cos, sin };
}
