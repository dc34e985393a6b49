import { activationOf } from './blocks/activation.js';
import { decoderArchitecture, type RawConfig, type Traits } from './config.js';

/** What all Gemmas have: embeddings times √hidden, gains kept as w − 1, GELU by tanh. */
export function gemmaTraits(raw: RawConfig): Traits & Required<Pick<Traits, 'scales'>> {
  const { attention_bias = false } = raw;
  return {
    bias: { qkv: attention_bias, o: attention_bias, mlp: false },
    normOffset: 1,
    scales: {
      embedding: Math.sqrt(raw.hidden_size),
      residual: 1,
      attention: 1 / Math.sqrt(raw.query_pre_attn_scalar ?? raw.head_dim!),
      logits: 1,
    },
  };
}

/** Gemma 1. Old files say "gelu" and mean its approximation. */
export const gemma = decoderArchitecture('gemma', (raw, place) => ({
  ...gemmaTraits(raw),
  activation:
    raw.hidden_act === 'gelu' ? 'gelu_pytorch_tanh' : activationOf(place, 'hidden_act', raw.hidden_act!),
}));
