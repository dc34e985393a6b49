import { decoderArchitecture } from './config.js';

/** Llama 1-3 (rope scaling as in 3.1), SmolLM2 and everything else that calls itself llama. */
export const llama = decoderArchitecture('llama', ({ attention_bias = false, mlp_bias = false }) => ({
  bias: { qkv: attention_bias, o: attention_bias, mlp: mlp_bias },
}));
