import { decoderArchitecture, mixtureOf } from './config.js';
import { EXPERT_KEYS, mixtureIn } from './gguf/decoder.js';

const NAMES = { block: 'mlp', gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };

/** Qwen3 with experts: every `decoder_sparse_step`th layer that is none of `mlp_only_layers` has them, the others an MLP. */
export const qwen3_moe = decoderArchitecture(
  'qwen3_moe',
  (raw, place) => {
    const { num_hidden_layers: length, attention_bias = false, norm_topk_prob: normalized = false } = raw;
    const { decoder_sparse_step: step = 1, moe_intermediate_size: inner = 768, mlp_only_layers: dense } = raw;
    const experts = mixtureOf(place, raw, { inner, normalized, names: NAMES });
    const window = raw.use_sliding_window ? (raw.sliding_window ?? null) : null;
    const isDense = (layer: number) => (dense ?? []).includes(layer) || (layer + 1) % step !== 0;
    return {
      bias: { qkv: attention_bias, o: attention_bias, mlp: false },
      qkNorm: 'head',
      mixtures: Array.from({ length }, (_, layer) => (isDense(layer) ? null : experts)),
      attention: Array.from({ length }, () => ({ window, rope: 0 })),
    };
  },
  {
    name: 'qwen3moe',
    className: 'Qwen3MoeForCausalLM',
    hasExperts: true,
    keys: [
      ...EXPERT_KEYS,
      {
        key: 'expert_feed_forward_length',
        hf: 'moe_intermediate_size',
        type: 'uint32',
        value: (c) => mixtureIn(c)?.inner ?? 0,
      },
    ],
    // llama.cpp has it so, and experts in every layer.
    rest: () => ({ norm_topk_prob: true }),
  },
);
