import * as z from 'zod';
import { UserError } from '../base/errors.js';
import type { Rng } from '../base/rng.js';
import { checkJson } from '../formats/io/json.js';
import { type PeftLoraConfig, peftLoraConfig, rankOf, scalingOf } from '../formats/peftConfig.js';
import { add, matmul } from '../graph/ops/index.js';
import type { Site } from '../models/model.js';
import { snakeKeys } from './keys.js';
import type { Method, Trainable } from './method.js';
import { matchTargets, parseTargets, type TargetModules } from './targets.js';

/** LoRA's options, named as in PEFT's LoraConfig. */
export interface LoraConfig {
  /** Rank of the update. */
  r: number;
  /** α: the update is scaled by α/r (α/√r with rsLoRA). */
  loraAlpha: number;
  /** Probability with which an element of A's input is dropped while training. */
  loraDropout: number;
  targetModules: TargetModules;
  /** Ranks and alphas of sites whose name ends with a pattern, where they differ from r and loraAlpha. */
  rankPattern: Record<string, number>;
  alphaPattern: Record<string, number>;
  /** Scale α/√r (Kalajdzievski, arXiv:2312.03732). */
  useRslora: boolean;
  /** true: A uniform as PEFT has it (Kaiming, a = √5), B zero; "gaussian": A ~ N(0, 1/r²), B zero; false: both random. */
  initLoraWeights: boolean | 'gaussian';
}

/** LoRA's options, by PEFT's names; its descendants extend them. */
export const loraOptions = z.strictObject({
  r: z.int().positive().default(8).describe('rank of the update (VeRA: 256 if not given)'),
  lora_alpha: z.number().positive().optional().describe('α: the update is scaled by α/r (default: r)'),
  lora_dropout: z.number().min(0).lt(1).default(0).describe("dropout of A's input while training"),
  target_modules: z
    .union([z.string().min(1), z.array(z.string().min(1))])
    .default(['q_proj', 'v_proj'])
    .describe('layers to adapt: names, a regular expression for whole names, or all-linear'),
  rank_pattern: z
    .record(z.string(), z.int().positive())
    .default({})
    .describe('ranks of layers whose name ends with a pattern, where they differ from r'),
  alpha_pattern: z.record(z.string(), z.number().positive()).default({}).describe('the same for α'),
  use_rslora: z.boolean().default(false).describe('scale by α/√r instead'),
  init_lora_weights: z
    .union([z.boolean(), z.literal('gaussian')])
    .default(true)
    .describe('true: A as PEFT starts it, B zero; gaussian: A ~ N(0, 1/r²), B zero; false: both random'),
});

/** A configuration from its checked options. */
export function loraConfig(c: z.output<typeof loraOptions>): LoraConfig {
  return {
    r: c.r,
    loraAlpha: c.lora_alpha ?? c.r,
    loraDropout: c.lora_dropout,
    targetModules: parseTargets(c.target_modules),
    rankPattern: c.rank_pattern,
    alphaPattern: c.alpha_pattern,
    useRslora: c.use_rslora,
    initLoraWeights: c.init_lora_weights,
  };
}

/** The same configuration in PEFT's words. */
export function toPeft(c: LoraConfig): PeftLoraConfig {
  return peftLoraConfig({
    r: c.r,
    lora_alpha: c.loraAlpha,
    lora_dropout: c.loraDropout,
    target_modules: typeof c.targetModules === 'string' ? c.targetModules : [...c.targetModules],
    rank_pattern: c.rankPattern,
    alpha_pattern: c.alphaPattern,
    use_rslora: c.useRslora,
    init_lora_weights: c.initLoraWeights,
    task_type: 'CAUSAL_LM',
  });
}

/** A configuration in PEFT's words, for the sites that were saved: they decide, not the patterns that named them. */
export function fromPeft(peft: PeftLoraConfig, sites: readonly string[]): LoraConfig {
  return {
    r: peft.r,
    loraAlpha: peft.lora_alpha,
    loraDropout: peft.lora_dropout,
    targetModules: sites,
    rankPattern: peft.rank_pattern,
    alphaPattern: peft.alpha_pattern,
    useRslora: peft.use_rslora,
    initLoraWeights: typeof peft.init_lora_weights === 'boolean' ? peft.init_lora_weights : 'gaussian',
  };
}

/** A [r, in] and B [out, r] of a site. Throws UserError where r is larger than its matrix allows. */
export function loraMatrices(c: LoraConfig, site: Site): Trainable[] {
  const r = rankOf(toPeft(c), site.name);
  if (r > Math.min(site.in, site.out)) {
    throw new UserError(`r ${r} is larger than ${site.name} allows: its matrix is ${site.out} × ${site.in}`);
  }
  // Kaiming uniform with a = √5 over fan-in n is U(-1/√n, 1/√n).
  const uniform = (fanIn: number, length: number) => (rng: Rng) =>
    Float32Array.from({ length }, () => (2 * rng.uniform() - 1) / Math.sqrt(fanIn));
  const sizeA = r * site.in;
  const sizeB = site.out * r;
  return [
    {
      name: `${site.name}.lora_A`,
      shape: [r, site.in],
      init:
        c.initLoraWeights === 'gaussian'
          ? (rng) => Float32Array.from({ length: sizeA }, () => rng.normal() / r)
          : uniform(site.in, sizeA),
    },
    {
      name: `${site.name}.lora_B`,
      shape: [site.out, r],
      init: c.initLoraWeights === false ? uniform(r, sizeB) : () => new Float32Array(sizeB),
    },
  ];
}

/** What B·A is multiplied with at a site: α/r, or α/√r with rsLoRA. */
export function scaleOf(c: LoraConfig, site: Site): number {
  return scalingOf(toPeft(c), site.name);
}

/**
 * LoRA (Hu et al., arXiv:2106.09685, eq. 3): h = W₀x + (α/r)·B·A·x with W₀ frozen, A [r, in] random and
 * B [out, r] zero, so that training starts exactly at the base.
 */
export const lora: Method<LoraConfig> = {
  name: 'lora',
  card: {
    title: 'LoRA',
    paper: 'arXiv:2106.09685',
    parameters: 'r·(in + out) a target',
    inference: 'two products of rank r a target',
    merges: true,
    peft: 'LORA',
  },
  startsAtBase: true,
  options: loraOptions,
  parse(place, config) {
    const given = snakeKeys(config);
    if (typeof given === 'object' && given !== null && 'use_dora' in given) {
      throw new UserError(`${place}: use_dora is a method of its own here, "dora"; leave the key out`);
    }
    return loraConfig(checkJson(place, given, loraOptions));
  },
  select: (c, { sites }) => matchTargets(c.targetModules, sites).flatMap((site) => loraMatrices(c, site)),
  toPeft,
  fromPeft: (peft, sites) =>
    peft.peft_type === 'LORA' && !peft.use_dora ? fromPeft(peft, sites) : undefined,

  linear(c, { site, param, dropped }, y) {
    const { x, scale } = dropped(c.loraDropout);
    const u = matmul(x, param('lora_A'), { transB: true });
    return add(y, matmul(u, param('lora_B'), { transB: true, alpha: scaleOf(c, site) * scale }));
  },

  merge(c, { site, param }, weight) {
    return add(weight, matmul(param('lora_B'), param('lora_A'), { alpha: scaleOf(c, site) }));
  },
};
