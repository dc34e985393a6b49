/** Models whose shapes are known by name: those of the LoRA paper, and the bases that are adapted most. */
import { nearest } from '../../base/errors.js';
import { type ModelShape, shapeOfConfig } from './shapes.js';

interface BuiltIn {
  title: string;
  /** As its config.json has it; GPT-3 is not published, its sizes are those of Brown et al., arXiv:2005.14165, table 2.1. */
  config: Readonly<Record<string, unknown>>;
}

const gpt2 = (n_layer: number, n_head: number, n_embd: number) => ({
  model_type: 'gpt2',
  vocab_size: 50_257,
  n_positions: 1024,
  n_layer,
  n_head,
  n_embd,
  torch_dtype: 'float32',
});

const roberta = (layers: number, heads: number, hidden: number) => ({
  model_type: 'roberta',
  vocab_size: 50_265,
  max_position_embeddings: 514,
  type_vocab_size: 1,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  hidden_size: hidden,
  intermediate_size: 4 * hidden,
  torch_dtype: 'float32',
});

const llama2 = (layers: number, heads: number, hidden: number, inner: number, kvHeads = heads) => ({
  model_type: 'llama',
  vocab_size: 32_000,
  max_position_embeddings: 4096,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  num_key_value_heads: kvHeads,
  hidden_size: hidden,
  intermediate_size: inner,
  torch_dtype: 'float16',
});

const llama3 = (layers: number, heads: number, hidden: number, inner: number, tied: boolean) => ({
  ...llama2(layers, heads, hidden, inner, 8),
  vocab_size: 128_256,
  max_position_embeddings: 131_072,
  tie_word_embeddings: tied,
  torch_dtype: 'bfloat16',
});

const models: Readonly<Record<string, BuiltIn>> = {
  gpt2: { title: 'GPT-2 small', config: gpt2(12, 12, 768) },
  'gpt2-medium': { title: 'GPT-2 medium', config: gpt2(24, 16, 1024) },
  'gpt2-large': { title: 'GPT-2 large', config: gpt2(36, 20, 1280) },
  gpt3: {
    title: 'GPT-3 175B',
    config: { ...gpt2(96, 96, 12_288), model_type: 'gpt3', n_positions: 2048, torch_dtype: 'float16' },
  },
  'roberta-base': { title: 'RoBERTa-base', config: roberta(12, 12, 768) },
  'roberta-large': { title: 'RoBERTa-large', config: roberta(24, 16, 1024) },
  'deberta-xxl': {
    title: 'DeBERTa-XXL',
    config: {
      model_type: 'deberta-v2',
      vocab_size: 128_100,
      max_position_embeddings: 512,
      type_vocab_size: 0,
      num_hidden_layers: 48,
      num_attention_heads: 24,
      hidden_size: 1536,
      intermediate_size: 6144,
      relative_attention: true,
      position_buckets: 256,
      position_biased_input: false,
      share_att_key: true,
      pos_att_type: 'p2c|c2p',
      norm_rel_ebd: 'layer_norm',
      conv_kernel_size: 3,
      torch_dtype: 'float16',
    },
  },
  'llama-7b': { title: 'Llama 2 7B', config: llama2(32, 32, 4096, 11_008) },
  'llama-13b': { title: 'Llama 2 13B', config: llama2(40, 40, 5120, 13_824) },
  'llama-70b': { title: 'Llama 2 70B', config: llama2(80, 64, 8192, 28_672, 8) },
  'llama-3-8b': { title: 'Llama 3.1 8B', config: llama3(32, 32, 4096, 14_336, false) },
  'llama-3-1b': { title: 'Llama 3.2 1B', config: llama3(16, 32, 2048, 8192, true) },
  'mistral-7b': {
    title: 'Mistral 7B',
    config: {
      ...llama2(32, 32, 4096, 14_336, 8),
      model_type: 'mistral',
      max_position_embeddings: 32_768,
      sliding_window: 4096,
      torch_dtype: 'bfloat16',
    },
  },
};

/** The names that shapes are known by. */
export const builtInNames: readonly string[] = Object.keys(models);

/** The shape of that name, in any case; undefined where there is none. */
export function builtInShape(name: string): ModelShape | undefined {
  const key = name.toLowerCase();
  if (!Object.hasOwn(models, key)) return undefined;
  const { title, config } = models[key];
  return shapeOfConfig(title, title, config);
}

/** The name that is most like one that is not known; undefined where none is like it. */
export function nearestBuiltIn(name: string): string | undefined {
  return nearest(name.toLowerCase(), builtInNames);
}
