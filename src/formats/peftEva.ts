/** PEFT's EvaConfig: how a LoRA that starts as EVA came about (written and checked against PEFT 0.21.2). */
import * as z from 'zod';

/** By PEFT's names, with its defaults. */
export const evaShape = {
  /** A layer has at most rho times its rank. */
  rho: z.number().min(1, 'rho: expected at least 1').default(2),
  /** Cosine between a direction and what it was a batch before, from which on it counts as found. */
  tau: z.number().min(0, 'tau: expected 0 to 1').max(1, 'tau: expected 0 to 1').default(0.99),
  /** Looks only at the tokens that are learned. */
  use_label_mask: z.boolean().default(true),
  /** The label of the others. */
  label_mask_value: z.int().default(-100),
  /** Divides each direction by the root of its singular value. */
  whiten: z.boolean().default(false),
  /** α grows and falls with a layer's rank. */
  adjust_scaling_factors: z.boolean().default(true),
};

export type EvaConfig = z.output<z.ZodObject<typeof evaShape>>;

export const evaDefaults: EvaConfig = z.object(evaShape).parse({});
