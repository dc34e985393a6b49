/** PEFT's adapter_config.json of LoRA and DoRA (written and checked against PEFT 0.21.2). */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { evaShape } from './peftEva.js';
import { commonShape, factor, flag, layerShape, perModule } from './peftKeys.js';
import type { PeftKind } from './peftKind.js';
import { nameEnd, patternValue } from './peftPatterns.js';

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
export const loraSchema = z.object({
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
  /** Of aLoRA: the tokens that call the adapter. */
  alora_invocation_tokens: z.array(z.int().nonnegative()).min(1).nullable().default(null),
  /** Of a start as "eva"; it matters only before training. */
  eva_config: z.object(evaShape).nullable().default(null),
});

/** A LoRA or DoRA adapter's configuration, by PEFT's names; absent keys have PEFT's defaults. */
export type PeftLoraConfig = z.infer<typeof loraSchema>;

/** Keys of LoRA that do not matter here. */
export const LORA_IDLE = {
  auto_mapping: null,
  corda_config: null,
  loftq_config: {},
  lora_ga_config: null,
  megatron_config: null,
  megatron_core: 'megatron.core',
  qalora_group_size: 16,
};

export const loraKind: PeftKind<PeftLoraConfig> = {
  schema: loraSchema,
  neutral: {
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
  title: (c) => (c.use_dora ? 'DoRA' : c.alora_invocation_tokens ? 'aLoRA' : 'LoRA'),
  describe: (c) =>
    `${c.use_rslora ? 'rsLoRA, ' : ''}r ${c.r}, alpha ${c.lora_alpha}, dropout ${c.lora_dropout}`,
  parts(c, site, embedding) {
    const r = loraRank(c, site);
    return {
      ...(embedding
        ? { lora_embedding_A: [r, 'in'], lora_embedding_B: ['out', r] }
        : { lora_A: [r, 'in'], lora_B: ['out', r] }),
      ...(c.lora_bias && !embedding && { lora_bias: ['out'] }),
      ...(c.use_dora && { lora_magnitude_vector: ['out'] }),
    };
  },
  rank: loraRank,
  scaling(c, site) {
    const r = loraRank(c, site);
    return alphaOf(c, site) / (c.use_rslora ? Math.sqrt(r) : r);
  },
  check(place, c) {
    refuseContradictions(place, c);
    for (const option of ['rank_pattern', 'alpha_pattern'] as const) {
      for (const pattern of Object.keys(c[option])) nameEnd(`${place}: ${option}`, pattern);
    }
  },
};

function loraRank(c: PeftLoraConfig, site: string): number {
  return patternValue('rank_pattern', c.rank_pattern, site) ?? c.r;
}

/** α of a site: the first alpha_pattern that ends its name, else lora_alpha. */
export function alphaOf(c: PeftLoraConfig, site: string): number {
  return patternValue('alpha_pattern', c.alpha_pattern, site) ?? c.lora_alpha;
}

/** What PEFT refuses, too. */
function refuseContradictions(place: string, c: PeftLoraConfig): void {
  if (c.alora_invocation_tokens && (c.use_dora || c.lora_bias)) {
    throw new UserError(`${place}: alora_invocation_tokens with use_dora or lora_bias is not implemented`);
  }
  if (c.lora_bias && (c.use_dora || typeof c.init_lora_weights !== 'boolean')) {
    throw new UserError(
      `${place}: lora_bias needs init_lora_weights true or false, and no DoRA, as PEFT has it`,
    );
  }
}
