/** PEFT's adapter_config.json of HiRA (written and checked against PEFT 0.21.2). */
import * as z from 'zod';
import { commonShape, modulesToSave, names, perModule } from './peftKeys.js';
import type { PeftKind } from './peftKind.js';

const hiraSchema = z.object({
  ...commonShape,
  peft_type: z.literal('HIRA'),
  r: z.int().positive().default(32),
  hira_dropout: z.number().min(0).lt(1).default(0),
  /** How A and B began; null is PEFT's false. */
  init_weights: z
    .union([z.boolean(), z.literal('gaussian')], 'expected true, false or "gaussian"')
    .nullable()
    .default(true)
    .transform((value) => value ?? false),
  exclude_modules: names.default(null),
  modules_to_save: modulesToSave,
  /** PEFT has it, and gives every layer the rank r all the same. */
  rank_pattern: perModule(z.int().positive()),
});

/** A HiRA adapter's configuration. */
export type PeftHiraConfig = z.infer<typeof hiraSchema>;

export const hiraKind: PeftKind<PeftHiraConfig> = {
  schema: hiraSchema,
  neutral: {},
  idle: { auto_mapping: null },
  title: () => 'HiRA',
  describe: (c) => `r ${c.r}, dropout ${c.hira_dropout}`,
  parts({ r }, _, embedding) {
    if (embedding) return { hira_embedding_A: [r, 'in'], hira_embedding_B: ['out', r] };
    return { hira_A: [r, 'in'], hira_B: ['out', r] };
  },
  rank: (c) => c.r,
  scaling: () => 1,
};
