import { decoderArchitecture } from './config.js';

/** Granite 3: Llama with factors of its own on embeddings, scores, residual sums and logits. */
export const granite = decoderArchitecture('granite', (raw) => {
  const { attention_bias = false, mlp_bias = false } = raw;
  return {
    bias: { qkv: attention_bias, o: attention_bias, mlp: mlp_bias },
    scales: {
      embedding: raw.embedding_multiplier ?? 1,
      residual: raw.residual_multiplier ?? 1,
      attention: raw.attention_multiplier ?? 1,
      logits: 1 / (raw.logits_scaling ?? 1),
    },
  };
});
