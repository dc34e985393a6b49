/** PEFT's adapter_config.json of AdaLoRA (written and checked against PEFT 0.21.2). */
import * as z from 'zod';
import { commonShape, factor, flag, layerShape } from './peftKeys.js';
import type { PeftKind } from './peftKind.js';
import { LORA_IDLE } from './peftLora.js';

/** Keys that say what an AdaLoRA adapter computes, and how its ranks came about. */
const adaloraSchema = z.object({
  ...commonShape,
  ...layerShape,
  peft_type: z.literal('ADALORA'),
  /** Of LoRA; AdaLoRA does not use it. */
  r: z.int().positive().default(8),
  init_r: z.int().positive().default(12),
  target_r: z.int().positive().default(8),
  tinit: z.int().nonnegative().default(0),
  tfinal: z.int().nonnegative().default(0),
  deltaT: z.int().positive().default(1),
  beta1: z.number().default(0.85),
  beta2: z.number().default(0.85),
  orth_reg_weight: z.number().default(0.5),
  total_step: z.int().positive().nullable().default(null),
  lora_alpha: factor.default(8),
  bias: z.enum(['none', 'all', 'lora_only']).default('none'),
  /** Of LoRA, as r. */
  use_rslora: flag,
  lora_dropout: z.number().min(0).lt(1).default(0),
  /** For `<site>.lora_E`: which of the first ranks are left; null before any was pruned. */
  rank_pattern: z.record(z.string(), z.array(z.boolean())).nullable().default(null),
});

/** An AdaLoRA adapter's configuration. */
export type PeftAdaloraConfig = z.infer<typeof adaloraSchema>;

/** Further keys with the value that leaves it as it is. */
const neutral = {
  alora_invocation_tokens: null,
  arrow_config: null,
  ensure_weight_tying: false,
  kasa_config: null,
  layer_replication: null,
  monteclora_config: null,
  target_parameters: null,
  use_bdlora: null,
  use_dora: false,
  use_qalora: false,
  velora_config: null,
};

/** Keys that LoRA has and AdaLoRA takes no notice of. */
const idle = { ...LORA_IDLE, alpha_pattern: {}, eva_config: null, init_lora_weights: true, lora_bias: false };

export const adaloraKind: PeftKind<PeftAdaloraConfig> = {
  schema: adaloraSchema,
  neutral,
  idle,
  title: () => 'AdaLoRA',
  describe: (c) =>
    `r ${c.init_r} at first, ${c.target_r} on average at the end, alpha ${c.lora_alpha}, dropout ${c.lora_dropout}`,
  parts(c, site) {
    const r = adaloraRank(c, site);
    return { adalora_A: [r, 'in'], adalora_E: [r, 1], adalora_B: ['out', r] };
  },
  rank: adaloraRank,
  scaling: adaloraScale,
};

/** The rank of a site, pruned ones left out. */
export function adaloraRank(
  { init_r, rank_pattern }: Pick<PeftAdaloraConfig, 'init_r' | 'rank_pattern'>,
  site: string,
): number {
  const left =
    rank_pattern && Object.hasOwn(rank_pattern, `${site}.lora_E`) && rank_pattern[`${site}.lora_E`];
  return left ? left.filter(Boolean).length : init_r;
}

/** What P·Λ·Q is multiplied with: α over the first rank, whatever was pruned since, and PEFT's guard against zero. */
export function adaloraScale({ lora_alpha, init_r }: { lora_alpha: number; init_r: number }): number {
  return (lora_alpha > 0 ? lora_alpha : init_r) / (init_r + 1e-5);
}
