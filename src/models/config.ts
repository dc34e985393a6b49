import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import type { Architecture, DecoderConfig, RopeConfig } from './model.js';

const size = z.int().positive();
const ropeSchema = z
  .looseObject({
    rope_type: z.string().optional(),
    type: z.string().optional(),
    rope_theta: z.number().positive().optional(),
    factor: z.number().positive().optional(),
    low_freq_factor: z.number().positive().optional(),
    high_freq_factor: z.number().positive().optional(),
    original_max_position_embeddings: size.optional(),
  })
  .nullish();

/** The keys of config.json that the Llama family shares. */
const schema = z.looseObject({
  model_type: z.string(),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  hidden_act: z.string().default('silu'),
  rms_norm_eps: z.number().positive().default(1e-6),
  max_position_embeddings: size.default(2048),
  tie_word_embeddings: z.boolean().default(false),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: ropeSchema,
  rope_parameters: ropeSchema,
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  sliding_window: size.nullish(),
  use_sliding_window: z.boolean().default(false),
});
type RawConfig = z.output<typeof schema>;

/** What an architecture adds to the shared keys. */
export type Traits = Pick<DecoderConfig, 'bias' | 'qkNorm' | 'slidingWindow'>;

/** An architecture of the Llama family; `traits` says where it departs from Llama. */
export function decoderArchitecture(modelType: string, traits: (raw: RawConfig) => Traits): Architecture {
  return {
    modelType,
    parse(place, config) {
      const raw = checkJson(place, config, schema);
      if (raw.hidden_act !== 'silu') {
        throw new UserError(
          `${place}: key "hidden_act": only "silu" is supported, found "${raw.hidden_act}"`,
        );
      }
      const heads = raw.num_attention_heads;
      const kvHeads = raw.num_key_value_heads ?? heads;
      if (heads % kvHeads !== 0) {
        throw new UserError(
          `${place}: key "num_key_value_heads": ${kvHeads} does not divide num_attention_heads, ${heads}`,
        );
      }
      if (!raw.head_dim && raw.hidden_size % heads !== 0) {
        throw new UserError(
          `${place}: key "num_attention_heads": ${heads} does not divide hidden_size, ${raw.hidden_size}`,
        );
      }
      return {
        modelType,
        vocabSize: raw.vocab_size,
        hiddenSize: raw.hidden_size,
        intermediateSize: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads,
        kvHeads,
        headDim: raw.head_dim ?? raw.hidden_size / heads,
        rmsNormEps: raw.rms_norm_eps,
        maxPositions: raw.max_position_embeddings,
        tieWordEmbeddings: raw.tie_word_embeddings,
        rope: parseRope(place, raw),
        ...traits(raw),
      };
    },
  };
}

function parseRope(place: string, raw: RawConfig): RopeConfig {
  const key = raw.rope_parameters ? 'rope_parameters' : 'rope_scaling';
  const rope = raw.rope_parameters ?? raw.rope_scaling ?? {};
  const theta = rope.rope_theta ?? raw.rope_theta ?? 10_000;
  const type = rope.rope_type ?? rope.type ?? 'default';
  const need = (
    name: 'factor' | 'low_freq_factor' | 'high_freq_factor' | 'original_max_position_embeddings',
  ) => {
    const value = rope[name];
    if (value === undefined)
      throw new UserError(`${place}: key "${key}.${name}" is missing; rope type "${type}" needs it`);
    return value;
  };
  switch (type) {
    case 'default':
      return { theta, scaling: { type } };
    case 'linear':
      return { theta, scaling: { type, factor: need('factor') } };
    case 'llama3':
      return {
        theta,
        scaling: {
          type,
          factor: need('factor'),
          lowFreqFactor: need('low_freq_factor'),
          highFreqFactor: need('high_freq_factor'),
          originalMaxPositions: need('original_max_position_embeddings'),
        },
      };
    default:
      throw new UserError(
        `${place}: key "${key}.rope_type": "${type}" is not supported, expected default, linear or llama3`,
      );
  }
}
