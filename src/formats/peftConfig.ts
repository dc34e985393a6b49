/**
 * PEFT's adapter_config.json for the adapter types that are implemented: keys, defaults and what they mean
 * (written and checked against PEFT 0.21.2).
 */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from './io/json.js';
import { adaloraNeutral, adaloraRank, adaloraScale, adaloraShape } from './peftAdalora.js';
import { evaShape } from './peftEva.js';
import { nameEnd } from './peftPatterns.js';

const PEFT_VERSION = '0.21.2';

const names = z.union([z.string(), z.array(z.string())]).nullable();
const indices = z.array(z.int().nonnegative());

/** A factor that the engine computes with in float32. */
export const factor = z.number().refine((value) => Number.isFinite(Math.fround(value)), {
  error: ({ input }) => `${input} is beyond float32`,
});

/** Ends of names of modules of which an adapter holds a full copy. */
const modulesToSave = z.array(z.string().min(1)).nullable().default(null);

/** Values by module-name pattern; PEFT has {} and null for none. */
const perModule = (value: z.ZodNumber | z.ZodInt) =>
  z
    .record(z.string(), value)
    .nullish()
    .transform((patterns) => patterns ?? {});

/** Keys of every adapter type. */
const commonShape = {
  target_modules: names.default(null),
  layers_to_transform: z
    .union([z.int().nonnegative(), z.array(z.int().nonnegative())])
    .nullable()
    .default(null),
  layers_pattern: names.default(null),
  /** How the base stores its weights; the adapter's tensors look the same either way. */
  fan_in_fan_out: z.boolean().default(false),
  base_model_name_or_path: z.string().nullable().default(null),
  revision: z.string().nullable().default(null),
  task_type: z.string().nullable().default(null),
  inference_mode: z.boolean().default(true),
  peft_version: z.string().nullable().default(PEFT_VERSION),
};

/** Keys that say what a LoRA or DoRA adapter computes. */
const loraSchema = z.object({
  ...commonShape,
  peft_type: z.literal('LORA'),
  r: z.int().positive().default(8),
  lora_alpha: factor.default(8),
  lora_dropout: z.number().min(0).lt(1).default(0),
  use_rslora: z.boolean().default(false),
  use_dora: z.boolean().default(false),
  exclude_modules: names.default(null),
  /** Which of the base's own biases train and are saved. */
  bias: z.enum(['none', 'all', 'lora_only']).default('none'),
  modules_to_save: modulesToSave,
  /** B has a bias. */
  lora_bias: z.boolean().default(false),
  /** Rows of the input embedding, or of each module named, that the adapter replaces. */
  trainable_token_indices: z
    .union([indices, z.record(z.string(), indices)])
    .nullable()
    .default(null),
  rank_pattern: perModule(z.int().positive()),
  alpha_pattern: perModule(factor),
  /** Only what leaves the base weights alone; PiSSA and its like need their changed base too. */
  init_lora_weights: z
    .union([z.boolean(), z.enum(['gaussian', 'eva', 'orthogonal', 'mica'])], {
      error: ({ input }) =>
        `${JSON.stringify(input)} is not implemented (it may change the base weights), expected true, false, ` +
        '"gaussian", "eva", "orthogonal" or "mica"',
    })
    .default(true),
  /** Of a start as "eva"; it matters only before training. */
  eva_config: z.object(evaShape).nullable().default(null),
});

/** Keys that say what a VeRA adapter computes. */
const veraSchema = z.object({
  ...commonShape,
  peft_type: z.literal('VERA'),
  r: z.int().positive().default(256),
  vera_dropout: z.number().min(0).lt(1).default(0),
  d_initial: factor.default(0.1),
  init_weights: z.boolean().default(true),
  projection_prng_key: z.int().default(0),
  bias: z.enum(['none', 'all', 'vera_only']).default('none'),
  modules_to_save: modulesToSave,
  save_projection: z
    .literal(true, {
      error: () => "the random matrices are PyTorch's and not in the file, save with save_projection=True",
    })
    .default(true),
});

const adaloraSchema = z.object({ ...commonShape, ...adaloraShape });

/** A LoRA or DoRA adapter's configuration, by PEFT's names; absent keys have PEFT's defaults. */
export type PeftLoraConfig = z.infer<typeof loraSchema>;
/** The same of a VeRA adapter. */
export type PeftVeraConfig = z.infer<typeof veraSchema>;
/** The same of an AdaLoRA adapter. */
export type PeftAdaloraConfig = z.infer<typeof adaloraSchema>;
export type PeftConfig = PeftLoraConfig | PeftVeraConfig | PeftAdaloraConfig;

interface Kind {
  schema: z.ZodObject;
  /** Further keys with the value that leaves the type as it is; written so, refused otherwise. */
  neutral: Record<string, unknown>;
  /** Keys that matter only before training, or only with a key that is refused. */
  idle: Record<string, unknown>;
}

const LORA_IDLE = {
  auto_mapping: null,
  corda_config: null,
  loftq_config: {},
  lora_ga_config: null,
  megatron_config: null,
  megatron_core: 'megatron.core',
  qalora_group_size: 16,
};

const KINDS: Record<PeftConfig['peft_type'], Kind> = {
  LORA: {
    schema: loraSchema,
    neutral: {
      alora_invocation_tokens: null,
      arrow_config: null,
      ensure_weight_tying: false,
      kasa_config: null,
      layer_replication: null,
      monteclora_config: null,
      target_parameters: null,
      use_bdlora: null,
      use_qalora: false,
      velora_config: null,
    },
    idle: LORA_IDLE,
  },
  ADALORA: {
    schema: adaloraSchema,
    neutral: adaloraNeutral,
    idle: { ...LORA_IDLE, eva_config: null, init_lora_weights: true },
  },
  VERA: {
    schema: veraSchema,
    neutral: {},
    idle: { auto_mapping: null },
  },
};

const kindSchema = z.object({ peft_type: z.enum(['LORA', 'VERA', 'ADALORA']) });

/**
 * Checks a PEFT configuration. PEFT's defaults stand in for absent keys.
 * @throws UserError naming `place`, the key and its value for whatever changes what the adapter computes and
 * is not implemented: a key of PEFT's that is not at its default, or an unknown key that is not null, false or empty.
 */
export function checkPeftConfig(place: string, value: unknown): PeftConfig {
  const raw = checkJson(place, value, z.record(z.string(), z.unknown()));
  const { schema, neutral, idle } = KINDS[checkJson(place, raw, kindSchema).peft_type];
  const config = checkJson(place, raw, schema) as PeftConfig;
  for (const [key, found] of Object.entries(raw)) {
    // PEFT drops a runtime_config too.
    if (Object.hasOwn(schema.shape, key) || Object.hasOwn(idle, key) || key === 'runtime_config') continue;
    if (isEmpty(found) || (Object.hasOwn(neutral, key) && found === neutral[key])) continue;
    throw new UserError(`${place}: ${key} ${JSON.stringify(found)} is not implemented`);
  }
  if (config.peft_type === 'LORA') {
    refuseContradictions(place, config);
    for (const option of ['rank_pattern', 'alpha_pattern'] as const) {
      for (const pattern of Object.keys(config[option])) nameEnd(`${place}: ${option}`, pattern);
    }
  }
  return config;
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === false || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** A LoRA configuration with PEFT's defaults where `given` has no key. */
export function peftLoraConfig(given: Partial<Omit<PeftLoraConfig, 'peft_type'>>): PeftLoraConfig {
  return checkPeftConfig('the LoRA configuration', { ...given, peft_type: 'LORA' }) as PeftLoraConfig;
}

/** The same for VeRA. */
export function peftVeraConfig(given: Partial<Omit<PeftVeraConfig, 'peft_type'>>): PeftVeraConfig {
  return checkPeftConfig('the VeRA configuration', { ...given, peft_type: 'VERA' }) as PeftVeraConfig;
}

/** The same for AdaLoRA. */
export function peftAdaloraConfig(given: Partial<Omit<PeftAdaloraConfig, 'peft_type'>>): PeftAdaloraConfig {
  const config = { ...given, peft_type: 'ADALORA' };
  return checkPeftConfig('the AdaLoRA configuration', config) as PeftAdaloraConfig;
}

/** A configuration's text in PEFT's own layout: all keys, sorted, two spaces. */
export function encodePeftConfig(config: PeftConfig): string {
  const { neutral, idle } = KINDS[config.peft_type];
  const all = Object.entries({ ...neutral, ...idle, ...config, inference_mode: true });
  return JSON.stringify(Object.fromEntries(all.sort(([a], [b]) => (a < b ? -1 : 1))), null, 2);
}

/** The rank of a site: the first rank_pattern that ends its name, else r (as PEFT's get_pattern_key). */
export function rankOf(config: PeftConfig, site: string): number {
  if (config.peft_type === 'ADALORA') return adaloraRank(config, site);
  return (config.peft_type === 'LORA' ? patternValue('rank_pattern', config, site) : undefined) ?? config.r;
}

/** What B·A is multiplied with at a site: alpha / r, or alpha / √r with use_rslora; 1 in VeRA. */
export function scalingOf(config: PeftConfig, site: string): number {
  if (config.peft_type === 'VERA') return 1;
  if (config.peft_type === 'ADALORA') return adaloraScale(config);
  const r = rankOf(config, site);
  return alphaOf(config, site) / (config.use_rslora ? Math.sqrt(r) : r);
}

/** α of a site: the first alpha_pattern that ends its name, else lora_alpha. */
export function alphaOf(config: PeftLoraConfig, site: string): number {
  return patternValue('alpha_pattern', config, site) ?? config.lora_alpha;
}

/** Whether `modules_to_save` names a module, or one that it is part of: PEFT compares the ends of names. */
export function isSavedModule(modulesToSave: readonly string[], module: string): boolean {
  const parts = module.split('.');
  const around = parts.map((_, i) => parts.slice(0, i + 1).join('.'));
  return modulesToSave.some((end) => around.some((name) => name.endsWith(end)));
}

/** The rows that an adapter replaces, by the name of their module; a bare list is of the input embedding. */
export function trainableTokens(config: PeftConfig): ReadonlyMap<string, readonly number[]> {
  const tokens = config.peft_type === 'LORA' ? config.trainable_token_indices : null;
  if (tokens === null) return new Map();
  return new Map(Object.entries(Array.isArray(tokens) ? { embed_tokens: tokens } : tokens));
}

function patternValue(
  option: 'rank_pattern' | 'alpha_pattern',
  { [option]: patterns }: PeftLoraConfig,
  site: string,
): number | undefined {
  return Object.entries(patterns).find(([pattern]) => nameEnd(option, pattern)(site))?.[1];
}

/** What PEFT refuses, too. */
function refuseContradictions(place: string, c: PeftLoraConfig): void {
  if (c.lora_bias && (c.use_dora || typeof c.init_lora_weights !== 'boolean')) {
    throw new UserError(
      `${place}: lora_bias needs init_lora_weights true or false, and no DoRA, as PEFT has it`,
    );
  }
}
