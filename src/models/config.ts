import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import type { Architecture } from './architecture.js';
import { activationOf } from './blocks/activation.js';
import { layerCount, size } from './configKeys.js';
import { decoderNetwork } from './decoder.js';
import { type ClassDefaults, classDefaults } from './defaults.js';
import { refuseForeignWeights } from './foreignWeights.js';
import { type DecoderTraits, decoderForm } from './gguf/decoder.js';
import type { DecoderConfig, LayerAttention, Mixture } from './model.js';
import { parseRope, type RopeDefaults, ropeKeys } from './ropeConfig.js';

/** The largest float32: the engine computes in these. */
const MAX_F32 = 3.4e38;

const finite = z.number().max(MAX_F32);

/** The keys of config.json that the Llama family shares. Absent is not null: it means the class's own default. */
const schema = z.looseObject({
  model_type: z.string(),
  vocab_size: size.optional(),
  hidden_size: size.optional(),
  intermediate_size: size.optional(),
  num_hidden_layers: layerCount.optional(),
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
  hidden_activation: z.string().nullish(),
  no_rope_layers: z.array(z.int()).nullish(),
  no_rope_layer_interval: size.optional(),
  embedding_multiplier: finite.optional(),
  residual_multiplier: finite.optional(),
  attention_multiplier: finite.optional(),
  logits_scaling: finite.positive().optional(),
  query_pre_attn_scalar: finite.positive().optional(),
  attn_logit_softcapping: finite.positive().nullish(),
  final_logit_softcapping: finite.positive().nullish(),
  sliding_window_pattern: size.optional(),
  rope_local_base_freq: finite.positive().optional(),
  use_bidirectional_attention: z.boolean().nullish(),
  num_experts: size.optional(),
  num_local_experts: size.optional(),
  num_experts_per_tok: size.optional(),
  moe_intermediate_size: size.optional(),
  norm_topk_prob: z.boolean().optional(),
  decoder_sparse_step: size.optional(),
  mlp_only_layers: z.array(z.int().nonnegative()).nullish(),
  output_router_logits: z
    .literal(false, { error: "a router's own loss is not supported, expected false" })
    .optional(),
  is_causal: z
    .literal(true, { error: 'attention to what comes later is not supported, expected true' })
    .optional(),
  ...ropeKeys,
});

/** A parsed config.json, what it leaves out filled in. */
export type RawConfig = z.output<typeof schema> & ClassDefaults;

/** What an architecture may be other in than Llama. */
export type Traits = Partial<
  Pick<
    DecoderConfig,
    | 'bias'
    | 'qkNorm'
    | 'norms'
    | 'normOffset'
    | 'fused'
    | 'mixtures'
    | 'scales'
    | 'softcaps'
    | 'activation'
    | 'ropes'
    | 'attention'
  >
>;

/** Sizes that traits may hang on. */
export type Heads = Pick<DecoderConfig, 'heads' | 'kvHeads' | 'headDim'>;

/** An architecture of the Llama family; `traits` says where it departs from Llama, `gguf` how llama.cpp has it. */
export function decoderArchitecture(
  modelType: keyof typeof classDefaults,
  traits: (raw: RawConfig, place: string, heads: Heads) => Traits = () => ({}),
  gguf?: DecoderTraits,
): Architecture<DecoderConfig> {
  return {
    modelType,
    ...(gguf && { gguf: decoderForm(gguf) }),
    network: decoderNetwork,
    parse(place, config) {
      refuseForeignWeights(place, config);
      const given = withOneName(place, checkJson(place, withoutUnused(modelType, config), schema));
      const named = Object.entries(given).filter(([, value]) => value !== undefined);
      const raw = { ...classDefaults[modelType], ...Object.fromEntries(named) } as RawConfig;
      const heads = headsOf(place, raw);
      const layers = raw.num_hidden_layers;
      const own = traits(raw, place, heads);
      return {
        modelType,
        vocabSize: raw.vocab_size,
        hiddenSize: raw.hidden_size,
        intermediateSize: raw.intermediate_size,
        layers,
        ...heads,
        rmsNormEps: raw.rms_norm_eps,
        maxPositions: raw.max_position_embeddings,
        tieWordEmbeddings: raw.tie_word_embeddings,
        bias: { qkv: false, o: false, mlp: false },
        qkNorm: null,
        norms: 'before',
        normOffset: 0,
        fused: false,
        mixtures: Array.from({ length: layers }, () => null),
        scales: { embedding: 1, residual: 1, attention: 1 / Math.sqrt(heads.headDim), logits: 1 },
        softcaps: { attention: null, logits: null },
        activation: own.activation ?? activationOf(place, 'hidden_act', raw.hidden_act!),
        ropes: own.ropes ?? [parseRope(place, raw, ropeDefaults(raw), heads.headDim)],
        attention: Array.from({ length: layers }, () => ({ window: null, rope: 0 })),
        ...own,
      };
    },
  };
}

const WINDOWS = ['sliding_window', 'use_sliding_window', 'max_window_layers'];
/** Keys that other classes have, and those of these names do not look at. */
const UNUSED: Partial<Record<keyof typeof classDefaults, readonly string[]>> = {
  llama: WINDOWS,
  mistral: ['attention_bias', 'mlp_bias', 'use_sliding_window', 'max_window_layers'],
  qwen2: ['attention_bias', 'mlp_bias'],
  qwen3: ['mlp_bias'],
  mixtral: ['attention_bias', 'mlp_bias', 'use_sliding_window', 'max_window_layers', 'layer_types'],
  qwen3_moe: ['mlp_bias', 'max_window_layers', 'layer_types'],
};

/** A config without the keys that its class does not look at: whatever these hold means nothing. */
function withoutUnused(modelType: keyof typeof classDefaults, config: unknown): unknown {
  const { use_sliding_window: on = false } = config as Record<string, unknown>;
  const off = modelType.startsWith('qwen') && on === false ? WINDOWS : [];
  const unused = [...(UNUSED[modelType] ?? []), ...off];
  return Object.fromEntries(Object.entries(config as object).filter(([key]) => !unused.includes(key)));
}

/** A config with one of the two names that the number of experts goes by. */
function withOneName(place: string, given: z.output<typeof schema>): z.output<typeof schema> {
  const { num_experts: other, ...rest } = given;
  if (other === undefined) return given;
  const { num_local_experts: experts = other } = rest;
  if (experts === other) return { ...rest, num_local_experts: experts };
  throw new UserError(
    `${place}: key "num_local_experts" is ${experts} and "num_experts", another name of it, ${other}`,
  );
}

/** What rotary embeddings have where their own keys are left out. */
function ropeDefaults({ rope_theta, max_position_embeddings }: RawConfig): RopeDefaults {
  return { rope_theta, max_position_embeddings };
}

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
  return { heads, kvHeads, headDim };
}

/** Layers that see all that is before them, and layers that see a window. */
const [FULL, SLIDING] = ['full_attention', 'sliding_attention'];

/** Which layers see a window only, by `layer_types`, or where there are none by `isSliding` of a layer's number. */
function slidingLayers(
  place: string,
  { layer_types: types, num_hidden_layers: layers }: RawConfig,
  isSliding: (layer: number) => boolean,
): boolean[] {
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
  return Array.from({ length: layers }, (_, i) => (types ? types[i] === SLIDING : isSliding(i)));
}

/**
 * How each layer attends: some with a `window`, as slidingLayers has it. Throws UserError where layers are to have one and
 * there is none.
 */
export function windowed(
  place: string,
  raw: RawConfig,
  window: number | null,
  isSliding: (layer: number) => boolean,
): (LayerAttention & { sliding: boolean })[] {
  return slidingLayers(place, raw, isSliding).map((sliding) => {
    if (sliding && window === null) {
      throw new UserError(`${place}: key "layer_types" asks for ${SLIDING}, and there is no sliding_window`);
    }
    return { sliding, window: sliding ? window : null, rope: 0 };
  });
}

/** As `windowed`, by the keys of Qwen: from layer `max_window_layers` on, where `use_sliding_window` turns them on. */
export function qwenWindows(place: string, raw: RawConfig): LayerAttention[] {
  const window = raw.use_sliding_window ? (raw.sliding_window ?? null) : null;
  const first = raw.max_window_layers ?? 0;
  return windowed(place, raw, window, (layer) => window !== null && layer >= first);
}

/** Experts by their keys in config.json. Throws UserError where a token is to be sent to more of them than there are. */
export function mixtureOf(
  place: string,
  raw: RawConfig,
  own: Pick<Mixture, 'inner' | 'normalized' | 'names'>,
): Mixture {
  const { num_local_experts: experts = 1, num_experts_per_tok: chosen = 1 } = raw;
  if (chosen > experts) {
    throw new UserError(`${place}: key "num_experts_per_tok" is ${chosen}, and there are ${experts} experts`);
  }
  return { experts, chosen, ...own };
}
