/**
 * PEFT's adapter_config.json for the adapter types that are implemented: keys, defaults and what they mean
 * (written and checked against PEFT 0.21.2).
 */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from './io/json.js';
import { adaloraIdle, adaloraNeutral, adaloraRank, adaloraScale, adaloraShape } from './peftAdalora.js';
import { evaShape } from './peftEva.js';
import { commonShape, factor, flag, layerShape, modulesToSave, perModule } from './peftKeys.js';
import { nameEnd } from './peftPatterns.js';

/** Starts of PEFT's that leave the base alone; an adapter with another is read where its base was put right when it was saved. */
const STARTS = ['gaussian', 'eva', 'orthogonal', 'mica'] as const;

/** Starts that are found in the base alone, so that what PEFT took out of it is known when the adapter is read. */
const FOUND_AGAIN = ['pissa', 'olora'] as const;
export type FoundStart = (typeof FOUND_AGAIN)[number];

/** The start of those in a configuration as it was read, if it has one. */
export function foundStartOf(raw: unknown): FoundStart | undefined {
  if (typeof raw !== 'object' || raw === null || !('init_lora_weights' in raw)) return undefined;
  return FOUND_AGAIN.find((start) => start === raw.init_lora_weights);
}

/** Why a start is none that is read. */
function refusedStart(input: unknown): string {
  const shown = JSON.stringify(input);
  if (/^(pissa(_niter_\d+)?|olora|corda|lora_ga)$/.test(String(input))) {
    return (
      `${shown} took a part out of the base, which this adapter goes with; save it with PEFT's ` +
      'path_initial_model_for_weight_conversion, which makes it one for the original base' +
      (FOUND_AGAIN.some((start) => start === input)
        ? ', or load it on its base and save it (loadAdapter, saveAdapter)'
        : '')
    );
  }
  return `${shown} is not implemented (it may change the base weights), expected true, false, "gaussian", "eva", "orthogonal" or "mica"`;
}

/** Keys that say what a LoRA or DoRA adapter computes. */
const loraSchema = z.object({
  ...commonShape,
  ...layerShape,
  peft_type: z.literal('LORA'),
  r: z.int().positive().default(8),
  lora_alpha: factor.default(8),
  lora_dropout: z.number().min(0).lt(1).default(0),
  use_rslora: flag,
  use_dora: flag,
  /** Which of the base's own biases train and are saved. */
  bias: z.enum(['none', 'all', 'lora_only']).default('none'),
  /** B has a bias. */
  lora_bias: flag,
  /** Of a tied pair, what is trained of one is trained of both. */
  ensure_weight_tying: flag,
  rank_pattern: perModule(z.int().positive()),
  alpha_pattern: perModule(factor),
  /** How A and B began. */
  init_lora_weights: z
    .union([z.boolean(), z.enum(STARTS)], {
      error: ({ input }) => refusedStart(input),
    })
    .nullable()
    .default(true)
    .transform((value) => value ?? true),
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
  init_weights: z.boolean().nullable().default(true),
  projection_prng_key: z.int().default(0),
  bias: z.enum(['none', 'all', 'vera_only']).default('none'),
  modules_to_save: modulesToSave,
  save_projection: z
    .literal(true, {
      error: () => "the random matrices are PyTorch's and not in the file, save with save_projection=True",
    })
    .default(true),
});

const adaloraSchema = z.object({ ...commonShape, ...layerShape, ...adaloraShape });

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
    idle: { ...LORA_IDLE, ...adaloraIdle, eva_config: null, init_lora_weights: true },
  },
  VERA: {
    schema: veraSchema,
    neutral: {},
    idle: { auto_mapping: null },
  },
};

/** What is read of PEFT's types, those of folders that methods read themselves included. */
export const READ_TYPES = ['LORA', 'ADALORA', 'VERA', 'PREFIX_TUNING', 'PROMPT_TUNING'];

const kindSchema = z.object({
  peft_type: z.enum(['LORA', 'VERA', 'ADALORA'], {
    error: ({ input }) => `${JSON.stringify(input) ?? 'none'} is not read, expected ${READ_TYPES.join(', ')}`,
  }),
});

/** Tasks whose head is no language model's. */
const CLASSIFIERS = ['SEQ_CLS', 'TOKEN_CLS', 'QUESTION_ANS'];

/**
 * Checks a PEFT configuration. PEFT's defaults stand in for absent keys.
 * @throws UserError naming `place`, the key and its value for whatever changes what the adapter computes and
 * is not implemented: a key of PEFT's that is not at its default, or an unknown key that is not null, false or empty.
 */
export function checkPeftConfig(place: string, value: unknown): PeftConfig {
  const raw = checkJson(place, value, z.record(z.string(), z.unknown()));
  const { schema, neutral, idle } = KINDS[checkJson(place, raw, kindSchema).peft_type];
  if (CLASSIFIERS.includes(String(raw.task_type))) {
    throw new UserError(
      `${place}: task_type ${JSON.stringify(raw.task_type)} needs a classifier on the model, and there are only language models (CAUSAL_LM) here`,
    );
  }
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
  const tokens = config.peft_type === 'VERA' ? null : config.trainable_token_indices;
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
