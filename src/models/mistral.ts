import { decoderArchitecture, windowed } from './config.js';
import { llamaGguf } from './llama.js';

/** Mistral 7B and its like: Llama with a sliding attention window, by layer where `layer_types` are given (Ministral). */
export const mistral = decoderArchitecture(
  'mistral',
  (raw, place) => {
    const window = raw.sliding_window ?? null;
    return { attention: windowed(place, raw, window, () => window !== null) };
  },
  llamaGguf,
);
