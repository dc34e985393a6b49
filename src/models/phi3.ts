import { decoderArchitecture, windowed } from './config.js';
import { parseRope } from './ropeConfig.js';

/** Phi-3 and Phi-4-mini: one matrix for q, k and v, one for gate and up; rotations of a part of each head. */
export const phi3 = decoderArchitecture(
  'phi3',
  (raw, place, { headDim }) => {
    const window = raw.sliding_window ?? null;
    const { rope_theta, max_position_embeddings } = raw;
    const defaults = { rope_theta, max_position_embeddings, partial: true };
    return {
      fused: true,
      ropes: [parseRope(place, raw, defaults, headDim)],
      attention: windowed(place, raw, window, () => window !== null),
    };
  },
  {
    name: 'phi3',
    className: 'Phi3ForCausalLM',
    isPartial: true,
    factors: ['rope_factors'],
    keys: [
      {
        key: 'attention.sliding_window',
        hf: 'sliding_window',
        type: 'uint32',
        value: ({ attention }) => attention[0].window ?? 0,
        absent: () => 0,
      },
    ],
    // 0 stands for none.
    rest: (_, { sliding_window }) => ({ sliding_window: sliding_window || null }),
  },
);
