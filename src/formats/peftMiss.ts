/** PEFT's adapter_config.json of MiSS (written and checked against PEFT 0.21.2). */
import * as z from 'zod';
import { commonShape, modulesToSave, names } from './peftKeys.js';
import type { PeftKind } from './peftKind.js';

// It is for layers that store their matrix as [out, in] alone, as PEFT has it.
const { fan_in_fan_out: _, ...common } = commonShape;

const missSchema = z.object({
  ...common,
  peft_type: z.literal('MISS'),
  r: z.int().positive().default(64),
  miss_dropout: z.number().min(0).lt(1).default(0),
  /** Columns of the block of "mini", which are repeated over the outputs. */
  mini_r: z.int().positive().default(1),
  /** Which variant it is, and of the plain one how it began; null is PEFT's false. */
  init_weights: z
    .union([z.boolean(), z.enum(['bat', 'mini'])], 'expected true, false, "bat" or "mini"')
    .nullable()
    .default(true)
    .transform((value) => value ?? false),
  bias: z.enum(['none', 'all', 'MiSS_only']).default('none'),
  exclude_modules: names.default(null),
  modules_to_save: modulesToSave,
});

/** A MiSS adapter's configuration. */
export type PeftMissConfig = z.infer<typeof missSchema>;

export const missKind: PeftKind<PeftMissConfig> = {
  schema: missSchema,
  neutral: {},
  idle: { auto_mapping: null },
  title: () => 'MiSS',
  describe: (c) =>
    `${typeof c.init_weights === 'string' ? `${c.init_weights}, ` : ''}r ${c.r}, dropout ${c.miss_dropout}`,
  parts({ r, mini_r, init_weights }) {
    if (init_weights === 'bat') return { miss_block: ['out/r', r, r] };
    return { miss_block: [r, init_weights === 'mini' ? mini_r : 'out'] };
  },
  rank: (c) => c.r,
  scaling: () => 1,
};
