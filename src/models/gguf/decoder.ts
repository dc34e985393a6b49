/** How llama.cpp has the decoders of the Llama family. */
import { interleavedRows } from '../../formats/gguf/rows.js';
import type { DecoderConfig } from '../model.js';
import { type GgufFile, type GgufForm, type GgufKey, type HfKeys, sizeKeys } from './form.js';
import { ropeKeysOf } from './rope.js';

/** What llama.cpp has otherwise than for Qwen 2. */
export interface DecoderTraits
  extends Pick<GgufForm<DecoderConfig>, 'name' | 'className' | 'normOffset' | 'head' | 'hasExperts'>,
    Partial<Pick<GgufForm<DecoderConfig>, 'factors' | 'hasWindows'>> {
  /** Rows of queries and keys are interleaved: its rotary embedding turns neighbours. */
  isInterleaved?: boolean;
  /** Whether q, k, v, o and the MLP may have biases: config.json says so where the file has them. */
  mayHaveBiases?: boolean;
  /** Whether a part of each head may be left as it is. */
  isPartial?: boolean;
  /** The activation, under config.json's key for it; default: SiLU. */
  activation?: HfKeys;
  keys?: readonly GgufKey<DecoderConfig>[];
  /** The rest of config.json. */
  rest?(file: GgufFile, read: HfKeys): HfKeys;
}

const KEYS: readonly GgufKey<DecoderConfig>[] = [
  ...sizeKeys({
    positions: 'max_position_embeddings',
    hidden: 'hidden_size',
    inner: 'intermediate_size',
    layers: 'num_hidden_layers',
    heads: 'num_attention_heads',
  }),
  {
    key: 'attention.head_count_kv',
    hf: 'num_key_value_heads',
    type: 'uint32',
    value: (c) => c.kvHeads,
    absent: (before) => before.num_attention_heads,
  },
  {
    key: 'attention.key_length',
    hf: 'head_dim',
    type: 'uint32',
    value: (c) => c.headDim,
    absent: (before) => Number(before.hidden_size) / Number(before.num_attention_heads),
  },
  { key: 'attention.value_length', type: 'uint32', value: (c) => c.headDim },
  {
    key: 'attention.layer_norm_rms_epsilon',
    hf: 'rms_norm_eps',
    type: 'float32',
    value: (c) => c.rmsNormEps,
  },
];

/** The experts of the first layer that has some. */
export const mixtureIn = ({ mixtures }: DecoderConfig) => mixtures.find((mixture) => mixture !== null);

/** Of experts, alike in every layer. */
export const EXPERT_KEYS: readonly GgufKey<DecoderConfig>[] = [
  {
    key: 'expert_count',
    hf: 'num_local_experts',
    type: 'uint32',
    value: (c) => mixtureIn(c)?.experts ?? 0,
    max: 4096,
  },
  {
    key: 'expert_used_count',
    hf: 'num_experts_per_tok',
    type: 'uint32',
    value: (c) => mixtureIn(c)?.chosen ?? 0,
  },
];

/** A decoder of the Llama family in llama.cpp. */
export function decoderForm(traits: DecoderTraits): GgufForm<DecoderConfig> {
  const { isInterleaved, mayHaveBiases, isPartial, activation, keys = [], rest, ...form } = traits;
  return {
    factors: [],
    hasWindows: false,
    ...form,
    keys: [...KEYS, ...keys],
    rows: (c, role) =>
      isInterleaved && (role === 'attention.q' || role === 'attention.k')
        ? interleavedRows(c.headDim)
        : undefined,
    async rest(file, read) {
      const { meta, name } = file;
      const headDim = Number(read.head_dim);
      const dim = meta.count(`${name}.rope.dimension_count`, headDim);
      if (meta.count(`${name}.attention.value_length`, headDim) !== headDim)
        meta.fail(`${name}.attention.value_length differs from the head size ${headDim}`);
      if (dim !== headDim && !isPartial)
        meta.fail(`${name}.rope.dimension_count differs from the head size ${headDim}`);
      if (dim % 2 !== 0) meta.fail(`${dim} dimensions of a head are odd, which no rotary embedding allows`);
      return {
        ...(activation ?? { hidden_act: 'silu' }),
        ...(await ropeKeysOf(file, { positions: Number(read.max_position_embeddings), dim })),
        ...(dim !== headDim && { partial_rotary_factor: dim / headDim }),
        ...(mayHaveBiases && {
          attention_bias: file.shapeOf('blk.0.attn_q.bias') !== undefined,
          mlp_bias: file.shapeOf('blk.0.ffn_up.bias') !== undefined,
        }),
        ...rest?.(file, read),
      };
    },
  };
}

/** Whether all layers have a window or none: the kinds of layers as config.json names them, by llama.cpp's period. */
export function layerTypes({ meta, name }: GgufFile, layers: number, period: number): string[] {
  const at = `${name}.attention.sliding_window_pattern`;
  const each = meta.booleans(at);
  if (each && each.length < layers) meta.fail(`${at} has ${each.length} entries for ${layers} layers`);
  const every = each || !meta.has(at) ? period : meta.count(at);
  return Array.from({ length: layers }, (_, i) => {
    const isSliding = each ? each[i] : every === 0 || i % every < every - 1;
    return isSliding ? 'sliding_attention' : 'full_attention';
  });
}
