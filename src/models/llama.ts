import { decoderArchitecture } from './config.js';

/** Llama 1-3 (rope scaling as in 3.1), SmolLM2 and everything else that calls itself llama. */
export const llama = decoderArchitecture('llama', (raw) => ({
  bias: { qkv: raw.attention_bias, o: raw.attention_bias, mlp: raw.mlp_bias },
  qkNorm: false,
  slidingWindow: null,
}));
