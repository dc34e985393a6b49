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
  hidden_act: string;
  rms_norm_eps: number;
  max_position_embeddings: number;
  tie_word_embeddings: boolean;
  rope_theta: number;
  attention_bias?: boolean;
  mlp_bias?: boolean;
  sliding_window?: number | null;
  use_sliding_window?: boolean;
  max_window_layers?: number;
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

/** By `model_type`; test/golden/configs.test.ts compares them with the classes of transformers. */
export const classDefaults = { llama, mistral, qwen2, qwen3 } as const satisfies Record<
  string,
  ClassDefaults
>;
