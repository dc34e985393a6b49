import { activationOf } from './blocks/activation.js';
import { decoderArchitecture, type RawConfig, type Traits } from './config.js';
import type { GgufKey, HfKeys } from './gguf/form.js';
import type { DecoderConfig } from './model.js';

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

/** What all Gemmas have in llama.cpp: gains kept as w. */
export const gemmaGguf = { normOffset: 1, activation: { hidden_activation: 'gelu_pytorch_tanh' } } as const;

/**
 * What scores are divided by the root of: the size of a head, in the largest model of each generation hidden_size / heads,
 * which llama.cpp knows by its number of layers.
 */
export function gemmaScale(largest: number) {
  return ({ num_hidden_layers: layers, hidden_size, num_attention_heads, head_dim }: HfKeys) =>
    layers === largest ? Number(hidden_size) / Number(num_attention_heads) : Number(head_dim);
}

/** A window's size in GGUF; `usual` where a file has none. */
export function gemmaWindow(usual: number | null): GgufKey<DecoderConfig> {
  return {
    key: 'attention.sliding_window',
    hf: 'sliding_window',
    type: 'uint32',
    value: ({ attention }) => attention.find(({ window }) => window !== null)?.window ?? null,
    absent: () => usual,
  };
}

/** Gemma 1. Old files say "gelu" and mean its approximation. */
export const gemma = decoderArchitecture(
  'gemma',
  (raw, place) => ({
    ...gemmaTraits(raw),
    activation:
      raw.hidden_act === 'gelu' ? 'gelu_pytorch_tanh' : activationOf(place, 'hidden_act', raw.hidden_act!),
  }),
  {
    ...gemmaGguf,
    name: 'gemma',
    className: 'GemmaForCausalLM',
    head: 'tied',
    activation: { hidden_act: 'gelu_pytorch_tanh' },
  },
);
