import { decoderArchitecture, windowed } from './config.js';
import { parseRope } from './ropeConfig.js';

/** Phi-3 and Phi-4-mini: one matrix for q, k and v, one for gate and up; rotations of a part of each head. */
export const phi3 = decoderArchitecture('phi3', (raw, place, { headDim }) => {
  const window = raw.sliding_window ?? null;
  const { rope_theta, max_position_embeddings } = raw;
  const defaults = { rope_theta, max_position_embeddings, partial: true };
  return {
    fused: true,
    ropes: [parseRope(place, raw, defaults, headDim)],
    attention: windowed(place, raw, window, () => window !== null),
  };
});
