import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import type { Architecture } from './architecture.js';
import { decoderNetwork } from './decoder.js';
import { type ClassDefaults, classDefaults } from './defaults.js';
import { refuseForeignWeights } from './foreignWeights.js';
import type { DecoderConfig } from './model.js';
import { parseRope, ropeKeys } from './ropeConfig.js';

/** More than any model has; what asks for more would build graphs for ever. */
const MAX_LAYERS = 1024;

const size = z.int().positive();
/** The largest float32: the engine computes in these. */
const MAX_F32 = 3.4e38;

/** The keys of config.json that the Llama family shares. Absent is not null: it means the class's own default. */
const schema = z.looseObject({
  model_type: z.string(),
  vocab_size: size.optional(),
  hidden_size: size.optional(),
  intermediate_size: size.optional(),
  num_hidden_layers: size.max(MAX_LAYERS).optional(),
  num_attention_heads: size.optional(),
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  hidden_act: z.string().optional(),
  rms_norm_eps: z.number().nonnegative().max(MAX_F32).optional(),
  max_position_embeddings: size.optional(),
  tie_word_embeddings: z.boolean().optional(),
  attention_bias: z.boolean().optional(),
  mlp_bias: z.boolean().optional(),
  sliding_window: size.nullish(),
  use_sliding_window: z.boolean().optional(),
  max_window_layers: z.int().nonnegative().optional(),
  layer_types: z.array(z.string()).nullish(),
  ...ropeKeys,
});

/** A parsed config.json, what it leaves out filled in. */
export type RawConfig = z.output<typeof schema> & ClassDefaults;

/** What an architecture adds to the shared keys. */
export type Traits = Pick<DecoderConfig, 'bias' | 'qkNorm' | 'slidingWindow'>;

/** An architecture of the Llama family; `traits` says where it departs from Llama. */
export function decoderArchitecture(
  modelType: keyof typeof classDefaults,
  traits: (raw: RawConfig, place: string) => Traits,
): Architecture {
  return {
    modelType,
    network: decoderNetwork,
    parse(place, config) {
      refuseForeignWeights(place, config);
      const given = checkJson(place, config, schema);
      const named = Object.entries(given).filter(([, value]) => value !== undefined);
      const raw = { ...classDefaults[modelType], ...Object.fromEntries(named) } as RawConfig;
      if (!ACTIVATIONS.has(raw.hidden_act)) {
        throw new UserError(
          `${place}: key "hidden_act": only "silu" (or "swish", its other name) is supported, found "${raw.hidden_act}"`,
        );
      }
      const { heads, kvHeads, headDim } = headsOf(place, raw);
      return {
        modelType,
        vocabSize: raw.vocab_size,
        hiddenSize: raw.hidden_size,
        intermediateSize: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads,
        kvHeads,
        headDim,
        rmsNormEps: raw.rms_norm_eps,
        maxPositions: raw.max_position_embeddings,
        tieWordEmbeddings: raw.tie_word_embeddings,
        rope: parseRope(place, raw, raw),
        ...traits(raw, place),
      };
    },
  };
}

const ACTIVATIONS: ReadonlySet<string> = new Set(['silu', 'swish']);

function headsOf(place: string, raw: RawConfig): Pick<DecoderConfig, 'heads' | 'kvHeads' | 'headDim'> {
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
  const headDim = raw.head_dim ?? raw.hidden_size / heads;
  if (headDim % 2 !== 0) {
    throw new UserError(
      `${place}: the heads have ${headDim} dimensions, and rotary embeddings need an even number`,
    );
  }
  return { heads, kvHeads, headDim };
}

/** Layers that see all that is before them, and layers that see a window. */
const [FULL, SLIDING] = ['full_attention', 'sliding_attention'];

/**
 * The window of every layer, or null where no layer has one, from `layer_types`, or where there are none from the kind of
 * each layer by its number. Throws UserError where some layers have a window and some have not.
 */
export function windowOf(
  place: string,
  { layer_types: types, num_hidden_layers: layers }: RawConfig,
  window: number | null,
  isSliding: (layer: number) => boolean,
): number | null {
  if (types && types.length !== layers) {
    throw new UserError(
      `${place}: key "layer_types" has ${types.length} entries, and num_hidden_layers is ${layers}`,
    );
  }
  const other = types?.find((type) => type !== FULL && type !== SLIDING);
  if (other !== undefined) {
    throw new UserError(
      `${place}: key "layer_types": "${other}" is not supported, expected ${FULL} or ${SLIDING}`,
    );
  }
  const sliding = Array.from({ length: layers }, (_, i) => (types ? types[i] === SLIDING : isSliding(i)));
  if (!sliding.includes(true)) return null;
  if (sliding.includes(false)) {
    const key = types ? 'layer_types' : 'max_window_layers';
    throw new UserError(
      `${place}: key "${key}": sliding windows on some layers only are not supported, just on all or none`,
    );
  }
  if (window === null) {
    throw new UserError(`${place}: key "layer_types" asks for ${SLIDING}, and there is no sliding_window`);
  }
  return window;
}

/** As windowOf, by the keys of Qwen: from layer `max_window_layers` on, where `use_sliding_window` turns them on. */
export function qwenWindow(place: string, raw: RawConfig): number | null {
  const window = raw.use_sliding_window ? (raw.sliding_window ?? null) : null;
  const first = raw.max_window_layers ?? 0;
  return windowOf(place, raw, window, (layer) => window !== null && layer >= first);
}
