/** PEFT's adapter_config.json of VeRA (written and checked against PEFT 0.21.2). */
import * as z from 'zod';
import { commonShape, factor, modulesToSave } from './peftKeys.js';
import type { PeftKind } from './peftKind.js';

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

/** A VeRA adapter's configuration. */
export type PeftVeraConfig = z.infer<typeof veraSchema>;

export const veraKind: PeftKind<PeftVeraConfig> = {
  schema: veraSchema,
  neutral: {},
  idle: { auto_mapping: null },
  title: () => 'VeRA',
  describe: (c) => `r ${c.r}, dropout ${c.vera_dropout}`,
  parts: (c) => ({ vera_lambda_b: ['out'], vera_lambda_d: [c.r] }),
  shared: (c) => ({ vera_A: [c.r, 'in'], vera_B: ['out', c.r] }),
  rank: (c) => c.r,
  scaling: () => 1,
};
