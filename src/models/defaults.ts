/** What config.json means where it leaves a key out: the values of transformers' configuration classes. */

/** Values by Hugging Face's names; null where the class has none of its own. */
export interface ClassDefaults {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  /** null: as many as query heads. */
  num_key_value_heads: number | null;
  /** null or absent: hidden_size / num_attention_heads. */
  head_dim?: number | null;
  hidden_act?: string;
  hidden_activation?: string;
  rms_norm_eps: number;
  max_position_embeddings: number;
  tie_word_embeddings: boolean;
  rope_theta: number;
  attention_bias?: boolean;
  mlp_bias?: boolean;
  sliding_window?: number | null;
  use_sliding_window?: boolean;
  max_window_layers?: number;
  original_max_position_embeddings?: number;
  no_rope_layer_interval?: number;
  embedding_multiplier?: number;
  residual_multiplier?: number;
  attention_multiplier?: number;
  logits_scaling?: number;
  query_pre_attn_scalar?: number;
  attn_logit_softcapping?: number | null;
  final_logit_softcapping?: number | null;
  num_local_experts?: number;
  num_experts_per_tok?: number;
  moe_intermediate_size?: number;
  norm_topk_prob?: boolean;
  decoder_sparse_step?: number;
}

const llama = {
  vocab_size: 32_000,
  hidden_size: 4096,
  intermediate_size: 11_008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: null,
  head_dim: null,
  hidden_act: 'silu',
  rms_norm_eps: 1e-6,
  max_position_embeddings: 2048,
  tie_word_embeddings: false,
  rope_theta: 10_000,
  attention_bias: false,
  mlp_bias: false,
};

const mistral = {
  vocab_size: 32_000,
  hidden_size: 4096,
  intermediate_size: 14_336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  head_dim: null,
  hidden_act: 'silu',
  rms_norm_eps: 1e-6,
  max_position_embeddings: 131_072,
  tie_word_embeddings: false,
  rope_theta: 10_000,
  sliding_window: 4096,
};

const mixtral = {
  ...mistral,
  rms_norm_eps: 1e-5,
  rope_theta: 1_000_000,
  sliding_window: null,
  num_local_experts: 8,
  num_experts_per_tok: 2,
};

const qwen2 = {
  vocab_size: 151_936,
  hidden_size: 4096,
  intermediate_size: 22_016,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 32,
  hidden_act: 'silu',
  rms_norm_eps: 1e-6,
  max_position_embeddings: 32_768,
  tie_word_embeddings: false,
  rope_theta: 10_000,
  use_sliding_window: false,
  sliding_window: 4096,
  max_window_layers: 28,
};

const qwen3 = { ...qwen2, head_dim: 128, attention_bias: false };

const qwen3_moe = {
  vocab_size: 151_936,
  hidden_size: 2048,
  intermediate_size: 6144,
  num_hidden_layers: 24,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  hidden_act: 'silu',
  rms_norm_eps: 1e-6,
  max_position_embeddings: 32_768,
  tie_word_embeddings: false,
  rope_theta: 10_000,
  attention_bias: false,
  use_sliding_window: false,
  sliding_window: 4096,
  num_local_experts: 128,
  num_experts_per_tok: 8,
  moe_intermediate_size: 768,
  norm_topk_prob: false,
  decoder_sparse_step: 1,
};

const smollm3 = {
  vocab_size: 128_256,
  hidden_size: 2048,
  intermediate_size: 11_008,
  num_hidden_layers: 36,
  num_attention_heads: 16,
  num_key_value_heads: 4,
  hidden_act: 'silu',
  rms_norm_eps: 1e-6,
  max_position_embeddings: 32_768,
  tie_word_embeddings: true,
  rope_theta: 2_000_000,
  attention_bias: false,
  mlp_bias: false,
  use_sliding_window: false,
  sliding_window: null,
  no_rope_layer_interval: 4,
};

const { head_dim: _, ...granite } = {
  ...llama,
  embedding_multiplier: 1,
  residual_multiplier: 1,
  attention_multiplier: 1,
  logits_scaling: 1,
};

const olmo2 = {
  vocab_size: 50_304,
  hidden_size: 4096,
  intermediate_size: 11_008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: null,
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  max_position_embeddings: 2048,
  tie_word_embeddings: false,
  rope_theta: 10_000,
  attention_bias: false,
};

const phi3 = {
  vocab_size: 32_064,
  hidden_size: 3072,
  intermediate_size: 8192,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: null,
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  max_position_embeddings: 4096,
  original_max_position_embeddings: 4096,
  tie_word_embeddings: false,
  rope_theta: 10_000,
  sliding_window: null,
};

const gemma = {
  vocab_size: 256_000,
  hidden_size: 3072,
  intermediate_size: 24_576,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  num_key_value_heads: 16,
  head_dim: 256,
  hidden_act: 'gelu_pytorch_tanh',
  rms_norm_eps: 1e-6,
  max_position_embeddings: 8192,
  tie_word_embeddings: true,
  rope_theta: 10_000,
  attention_bias: false,
};

const gemma2 = {
  vocab_size: 256_000,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  hidden_activation: 'gelu_pytorch_tanh',
  rms_norm_eps: 1e-6,
  max_position_embeddings: 8192,
  tie_word_embeddings: true,
  rope_theta: 10_000,
  attention_bias: false,
  sliding_window: 4096,
  query_pre_attn_scalar: 256,
  attn_logit_softcapping: 50,
  final_logit_softcapping: 30,
};

const gemma3_text = {
  ...gemma2,
  vocab_size: 262_208,
  max_position_embeddings: 131_072,
  rope_theta: 1_000_000,
  attn_logit_softcapping: null,
  final_logit_softcapping: null,
};

/** By `model_type`; test/golden/configs.test.ts compares them with the classes of transformers. */
export const classDefaults = {
  llama,
  mistral,
  qwen2,
  qwen3,
  mixtral,
  qwen3_moe,
  smollm3,
  granite,
  olmo2,
  phi3,
  gemma,
  gemma2,
  gemma3_text,
} as const satisfies Record<string, ClassDefaults>;
