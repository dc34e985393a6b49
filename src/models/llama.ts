import { decoderArchitecture } from './config.js';
import type { DecoderTraits } from './gguf/decoder.js';

/** Llama in llama.cpp, which calls Mistral the same. */
export const llamaGguf: DecoderTraits = {
  name: 'llama',
  className: 'LlamaForCausalLM',
  isInterleaved: true,
  mayHaveBiases: true,
  factors: ['rope_freqs', 'rope_factors'],
};

/** Llama 1-3 (rope scaling as in 3.1), SmolLM2 and everything else that calls itself llama. */
export const llama = decoderArchitecture(
  'llama',
  ({ attention_bias = false, mlp_bias = false }) => ({
    bias: { qkv: attention_bias, o: attention_bias, mlp: mlp_bias },
  }),
  llamaGguf,
);
