/** A Hugging Face config.json from the metadata of a GGUF file, for the Llama family. */
import type { StoredDType } from '../../base/tensor.js';
import { Metadata } from './metadata.js';
import { type Gguf, readGgufTensor } from './reader.js';

/** What differs between the architectures that are converted. */
export interface Architecture {
  modelType: string;
  className: string;
  /** llama.cpp stores the rows of q and k of its `llama` models in another order (names.ts). */
  permuted: boolean;
  /** Biases of q, k and v. */
  bias: boolean;
  /** Norms of q and k. */
  qkNorm: boolean;
}

export const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: { modelType: 'llama', className: 'LlamaForCausalLM', permuted: true, bias: false, qkNorm: false },
  qwen2: { modelType: 'qwen2', className: 'Qwen2ForCausalLM', permuted: false, bias: true, qkNorm: false },
  qwen3: { modelType: 'qwen3', className: 'Qwen3ForCausalLM', permuted: false, bias: false, qkNorm: true },
};

interface Llama3Scaling {
  rope_type: 'llama3';
  factor: number;
  low_freq_factor: number;
  high_freq_factor: number;
  original_max_position_embeddings: number;
}
type RopeScaling = { rope_type: 'linear'; factor: number } | Llama3Scaling;

/** The config.json that is written; Hugging Face's keys. */
export interface HfConfig {
  architectures: [string];
  model_type: string;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  vocab_size: number;
  max_position_embeddings: number;
  rms_norm_eps: number;
  rope_theta: number;
  rope_scaling: RopeScaling | null;
  hidden_act: 'silu';
  attention_bias: boolean;
  tie_word_embeddings: boolean;
  bos_token_id: number | null;
  eos_token_id: number | null;
  pad_token_id: number | null;
  torch_dtype: StoredDType;
}

const MAX_LAYERS = 1024;

/**
 * The configuration of the model in a GGUF file.
 * @throws UserError when its architecture, or something about it (experts, partial rotary, a rope scaling),
 * is not converted, or a key is missing.
 */
export async function configOf(
  gguf: Gguf,
  dtype: StoredDType,
): Promise<{ architecture: Architecture; config: HfConfig }> {
  const meta = new Metadata(gguf);
  const kind = meta.string('general.type', 'model');
  if (kind !== 'model') meta.fail(`general.type is "${kind}": this is no model`);
  const name = meta.string('general.architecture');
  if (!Object.hasOwn(ARCHITECTURES, name)) {
    meta.fail(`architecture "${name}" is not converted, expected ${Object.keys(ARCHITECTURES).join(', ')}`);
  }
  const architecture = ARCHITECTURES[name];
  const key = (suffix: string) => `${name}.${suffix}`;
  if (meta.count(key('expert_count'), 0) > 0) meta.fail('a mixture of experts is not converted');

  const hidden = meta.count(key('embedding_length'));
  const heads = meta.count(key('attention.head_count'));
  if (hidden === 0 || heads === 0) meta.fail(`${key('embedding_length')} and head_count must be above 0`);
  const headDim = meta.count(key('attention.key_length'), hidden / heads);
  if (headDim % 2 !== 0) meta.fail(`the head size ${headDim} is odd, which no rotary embedding allows`);
  for (const same of ['attention.value_length', 'rope.dimension_count']) {
    if (meta.count(key(same), headDim) !== headDim)
      meta.fail(`${key(same)} differs from the head size ${headDim}`);
  }
  const theta = shortestF32(meta.number(key('rope.freq_base'), 10000));
  const id = (token: string): number | null => {
    const at = `tokenizer.ggml.${token}_token_id`;
    return meta.has(at) ? meta.count(at) : null;
  };
  const config: HfConfig = {
    architectures: [architecture.className],
    model_type: architecture.modelType,
    hidden_size: hidden,
    intermediate_size: meta.count(key('feed_forward_length')),
    num_hidden_layers: meta.count(key('block_count'), undefined, MAX_LAYERS),
    num_attention_heads: heads,
    num_key_value_heads: meta.count(key('attention.head_count_kv'), heads),
    head_dim: headDim,
    vocab_size: vocabularySize(gguf, meta),
    max_position_embeddings: meta.count(key('context_length')),
    rms_norm_eps: shortestF32(meta.number(key('attention.layer_norm_rms_epsilon'))),
    rope_theta: theta,
    rope_scaling: await ropeScaling(gguf, meta, name, headDim, theta),
    hidden_act: 'silu',
    attention_bias: architecture.bias,
    tie_word_embeddings: !gguf.tensors.has('output.weight'),
    bos_token_id: id('bos'),
    eos_token_id: id('eos'),
    pad_token_id: id('padding'),
    torch_dtype: dtype,
  };
  if (config.num_key_value_heads === 0 || heads % config.num_key_value_heads !== 0) {
    meta.fail(`${heads} heads cannot share ${config.num_key_value_heads} key and value heads`);
  }
  return { architecture, config };
}

/** The rows of the embedding, which may be padded beyond the tokens. */
function vocabularySize(gguf: Gguf, meta: Metadata): number {
  const embedding = gguf.tensors.get('token_embd.weight');
  return embedding?.shape.length === 2
    ? embedding.shape[0]
    : meta.fail('there is no tensor "token_embd.weight"');
}

async function ropeScaling(
  gguf: Gguf,
  meta: Metadata,
  name: string,
  headDim: number,
  theta: number,
): Promise<RopeScaling | null> {
  const linear = linearFactor(meta, name);
  const factors = gguf.tensors.get('rope_freqs.weight');
  if (factors === undefined) return linear === 1 ? null : { rope_type: 'linear', factor: linear };
  if (linear !== 1)
    meta.fail('it has linear rope scaling and rope_freqs.weight, which are not converted together');
  const found = await readGgufTensor(gguf, factors);
  const scaling = llama3Scaling(found[found.length - 1]);
  const expected = llama3Factors(scaling, headDim, theta);
  const agrees =
    found.length === expected.length && expected.every((x, i) => Math.abs(found[i] / x - 1) < 1e-3);
  if (!agrees) meta.fail('rope_freqs.weight is not the scaling of Llama 3, and no other is converted');
  return scaling;
}

/** As llama.cpp reads it: without a type a factor is linear, 0 and no factor are none, and an older key is looked for too. */
function linearFactor(meta: Metadata, name: string): number {
  const type = meta.string(`${name}.rope.scaling.type`, 'linear');
  if (type !== 'none' && type !== 'linear') {
    meta.fail(`rope scaling "${type}" is not converted, expected none or linear`);
  }
  const older = meta.number(`${name}.rope.scale_linear`, 0);
  const factor = shortestF32(meta.number(`${name}.rope.scaling.factor`, older));
  if (factor < 0) meta.fail(`the rope scaling factor is ${factor}, expected one above 0`);
  return type === 'none' || factor === 0 ? 1 : factor;
}

/** A file keeps only the factors that Llama 3's scaling leads to; of its parameters only `factor` varies between models. */
function llama3Scaling(factor: number): Llama3Scaling {
  return {
    rope_type: 'llama3',
    factor: shortestF32(factor),
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
}

/** What Llama 3 divides each rotary frequency by (transformers: _compute_llama3_parameters). */
export function llama3Factors(s: Llama3Scaling, headDim: number, theta: number): number[] {
  const context = s.original_max_position_embeddings;
  return Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / headDim);
    if (wavelength < context / s.high_freq_factor) return 1;
    if (wavelength > context / s.low_freq_factor) return s.factor;
    const smooth = (context / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
    return 1 / ((1 - smooth) / s.factor + smooth);
  });
}

/** The decimal number that was meant by a float32, 1e-5 for 0.000009999999747: the shortest that rounds to it. */
export function shortestF32(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === Math.fround(value)) return short;
  }
  return value;
}
