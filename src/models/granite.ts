import { decoderArchitecture } from './config.js';
import type { GgufKey } from './gguf/form.js';
import type { DecoderConfig } from './model.js';

/** One of its factors in GGUF. */
function factor(
  key: string,
  hf: string,
  value: (c: DecoderConfig) => number,
  absent: GgufKey<DecoderConfig>['absent'] = () => 1,
): GgufKey<DecoderConfig> {
  return { key, hf, type: 'float32', value, absent };
}

/** Granite 3: Llama with factors of its own on embeddings, scores, residual sums and logits. */
export const granite = decoderArchitecture(
  'granite',
  (raw) => {
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
  },
  {
    name: 'granite',
    className: 'GraniteForCausalLM',
    isInterleaved: true,
    mayHaveBiases: true,
    factors: ['rope_freqs', 'rope_factors'],
    keys: [
      factor(
        'attention.scale',
        'attention_multiplier',
        (c) => c.scales.attention,
        ({ head_dim }) => 1 / Math.sqrt(Number(head_dim)),
      ),
      factor('embedding_scale', 'embedding_multiplier', (c) => c.scales.embedding),
      factor('residual_scale', 'residual_multiplier', (c) => c.scales.residual),
      factor('logit_scale', 'logits_scaling', (c) => 1 / c.scales.logits),
    ],
  },
);
