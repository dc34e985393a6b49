/** Rotary embeddings as config.json spells them. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import type { RopeConfig } from './model.js';

const size = z.int().positive();
const rope = z
  .looseObject({
    rope_type: z.string().optional(),
    type: z.string().optional(),
    rope_theta: z.number().positive().optional(),
    partial_rotary_factor: z.number().nullish(),
    factor: z.number().positive().optional(),
    low_freq_factor: z.number().positive().optional(),
    high_freq_factor: z.number().positive().optional(),
    original_max_position_embeddings: size.optional(),
  })
  .nullish();

/** The keys of config.json that are about rotary embeddings. */
export const ropeKeys = {
  rope_theta: z.number().positive().optional(),
  rope_scaling: rope,
  rope_parameters: rope,
  partial_rotary_factor: z.number().nullish(),
  original_max_position_embeddings: size.nullish(),
};
type RopeKeys = z.output<z.ZodObject<typeof ropeKeys>>;

/**
 * Reads them as transformers does: `rope_scaling` wins over `rope_parameters` unless it is empty, and what stands within
 * over what stands beside, save for the context that Llama 3's scaling starts from. Throws UserError on what is not computed.
 */
export function parseRope(
  place: string,
  raw: RopeKeys,
  { rope_theta, max_position_embeddings }: { rope_theta: number; max_position_embeddings: number },
): RopeConfig {
  const key = isFilled(raw.rope_scaling) ? 'rope_scaling' : 'rope_parameters';
  const given = raw[key] ?? {};
  const theta = given.rope_theta ?? rope_theta;
  const type = given.rope_type ?? given.type ?? 'default';
  for (const [at, part] of [
    [`${key}.`, given],
    ['', raw],
  ] as const) {
    if ((part.partial_rotary_factor ?? 1) !== 1) {
      throw new UserError(
        `${place}: key "${at}partial_rotary_factor": rotating a part of each head only is not supported`,
      );
    }
  }
  const nested = Object.entries(given).find(([, value]) => typeof value === 'object' && value !== null);
  if (nested) {
    throw new UserError(
      `${place}: key "${key}.${nested[0]}": other rotary embeddings by layer are not supported`,
    );
  }
  const need = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor') => {
    const value = given[name];
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
          originalMaxPositions:
            raw.original_max_position_embeddings ??
            given.original_max_position_embeddings ??
            max_position_embeddings,
        },
      };
    default:
      throw new UserError(
        `${place}: key "${key}.rope_type": "${type}" is not supported, expected default, linear or llama3`,
      );
  }
}

function isFilled(value: object | null | undefined): boolean {
  return Object.keys(value ?? {}).length > 0;
}
