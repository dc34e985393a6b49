/** Rotary embeddings as config.json spells them. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import type { RopeConfig, RopeScaling } from './model.js';

const size = z.int().positive();
const positive = z.number().positive();
const factors = z.array(positive).optional();
/** What one rotary embedding may say. */
const parameters = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: positive.optional(),
  partial_rotary_factor: positive.max(1).nullish(),
  factor: positive.nullish(),
  low_freq_factor: positive.optional(),
  high_freq_factor: positive.optional(),
  original_max_position_embeddings: size.optional(),
  attention_factor: positive.nullish(),
  beta_fast: positive.nullish(),
  beta_slow: positive.nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().optional(),
  short_factor: factors,
  long_factor: factors,
});
export type RopeParameters = z.output<typeof parameters>;

/** The keys of config.json that are about rotary embeddings. */
export const ropeKeys = {
  rope_theta: positive.optional(),
  rope_scaling: parameters.nullish(),
  rope_parameters: parameters.nullish(),
  partial_rotary_factor: positive.max(1).nullish(),
  original_max_position_embeddings: size.nullish(),
};
type RopeKeys = z.output<z.ZodObject<typeof ropeKeys>>;

/** What a class has for keys that are left out. */
export interface RopeDefaults {
  rope_theta: number;
  max_position_embeddings: number;
  /** Whether a part of each head may be left as it is. */
  partial?: boolean;
}

/**
 * Reads them as transformers does: `rope_scaling` wins over `rope_parameters` unless it is empty, and what stands within
 * over what stands beside, save for the context that a scaling starts from. Throws UserError on what is not computed.
 */
export function parseRope(place: string, raw: RopeKeys, defaults: RopeDefaults, headDim: number): RopeConfig {
  const key = isFilled(raw.rope_scaling) ? 'rope_scaling' : 'rope_parameters';
  const given = raw[key] ?? {};
  const nested = Object.entries(given).find(
    ([, value]) => typeof value === 'object' && value !== null && !Array.isArray(value),
  );
  if (nested) {
    throw new UserError(
      `${place}: key "${key}.${nested[0]}": other rotary embeddings by layer are not supported for this model_type`,
    );
  }
  return ropeOf(`${place}: key "${key}`, given, raw, defaults, headDim);
}

/**
 * One rotary embedding of heads of `headDim`. `at` begins errors: the place and the key it stands under; `beside` are the
 * keys of config.json itself.
 */
export function ropeOf(
  at: string,
  given: RopeParameters,
  beside: RopeKeys,
  defaults: RopeDefaults,
  headDim: number,
): RopeConfig {
  const theta = given.rope_theta ?? beside.rope_theta ?? defaults.rope_theta;
  const share = given.partial_rotary_factor ?? beside.partial_rotary_factor ?? 1;
  if (share !== 1 && !defaults.partial) {
    throw new UserError(
      `${at}.partial_rotary_factor": rotating a part of each head only is not supported for this model_type`,
    );
  }
  const dim = Math.trunc(headDim * share);
  if (dim % 2 !== 0 || dim === 0) {
    throw new UserError(
      `${at}": ${dim} of the ${headDim} dimensions of a head would be rotated, and rotary embeddings need an even number`,
    );
  }
  return { theta, dim, scaling: scalingOf(at, given, beside, defaults, dim) };
}

function scalingOf(
  at: string,
  given: RopeParameters,
  beside: RopeKeys,
  { max_position_embeddings: longest }: RopeDefaults,
  dim: number,
): RopeScaling {
  const type = given.rope_type ?? given.type ?? 'default';
  const need = <K extends keyof RopeParameters>(name: K): NonNullable<RopeParameters[K]> => {
    const value = given[name];
    if (value === undefined || value === null)
      throw new UserError(`${at}.${String(name)}" is missing; rope type "${type}" needs it`);
    return value as NonNullable<RopeParameters[K]>;
  };
  const original =
    beside.original_max_position_embeddings ?? given.original_max_position_embeddings ?? longest;
  switch (type) {
    case 'default':
      return { type };
    case 'linear':
      return { type, factor: need('factor') };
    case 'dynamic':
      return { type, factor: need('factor'), maxPositions: longest };
    case 'llama3':
      return {
        type,
        factor: need('factor'),
        lowFreqFactor: need('low_freq_factor'),
        highFreqFactor: need('high_freq_factor'),
        originalMaxPositions: original,
      };
    case 'yarn': {
      const factor = given.factor ?? longest / original;
      return {
        type,
        factor,
        attentionFactor: given.attention_factor ?? yarnAttention(factor, given),
        betaFast: given.beta_fast ?? 32,
        betaSlow: given.beta_slow ?? 1,
        truncate: given.truncate ?? true,
        originalMaxPositions: original,
      };
    }
    case 'longrope':
    case 'su': {
      const [shortFactors, longFactors] = (['short_factor', 'long_factor'] as const).map((name) => {
        const list = need(name);
        if (list.length === dim / 2) return list;
        throw new UserError(
          `${at}.${name}" has ${list.length} factors, and ${dim} rotated dimensions need ${dim / 2}`,
        );
      });
      const factor = given.factor ?? longest / original;
      return {
        type: 'longrope',
        shortFactors,
        longFactors,
        attentionFactor: given.attention_factor ?? spreadOf(factor, original),
        originalMaxPositions: original,
      };
    }
    default:
      throw new UserError(
        `${at}.rope_type": "${type}" is not supported, expected default, linear, dynamic, llama3, yarn or longrope`,
      );
  }
}

/** What LongRoPE multiplies cos and sin by where a context of `original` positions is stretched by `factor` (Phi-3). */
export function spreadOf(factor: number, original: number): number {
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
}

/** What YaRN multiplies cos and sin by where the configuration does not say (Peng et al., arXiv:2309.00071, section 3.4). */
function yarnAttention(factor: number, { mscale, mscale_all_dim }: RopeParameters): number {
  const of = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  return mscale && mscale_all_dim ? of(mscale) / of(mscale_all_dim) : of(1);
}

function isFilled(value: object | null | undefined): boolean {
  return Object.keys(value ?? {}).length > 0;
}
