import { decoderArchitecture } from './config.js';

/** Mistral 7B and its like: Llama with a sliding attention window. */
export const mistral = decoderArchitecture('mistral', (raw) => ({
  bias: { qkv: false, o: false, mlp: false },
  qkNorm: false,
  slidingWindow: raw.sliding_window ?? null,
}));
