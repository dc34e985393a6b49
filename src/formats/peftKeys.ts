/** Keys that several of PEFT's configurations share, and what their values may be. */
import * as z from 'zod';

export const PEFT_VERSION = '0.21.2';

/** Names of modules, or one pattern. */
export const names = z.union([z.string(), z.array(z.string())]).nullable();
const indices = z.array(z.int().nonnegative());

/** A factor that the engine computes with in float32. */
export const factor = z.number().refine((value) => Number.isFinite(Math.fround(value)), {
  error: ({ input }) => `${input} is beyond float32`,
});

/** A switch that is off; some tools write null for that. */
export const flag = z
  .boolean()
  .nullable()
  .default(false)
  .transform((value) => value ?? false);

/** Ends of names of modules of which an adapter holds a full copy. */
export const modulesToSave = z.array(z.string().min(1)).nullable().default(null);

/** Rows of the input embedding, or of each module named, that an adapter replaces. */
export const tokenIndices = z
  .union([indices, z.record(z.string(), indices)])
  .nullable()
  .default(null);

/** Values by module-name pattern; PEFT has {} and null for none. */
export const perModule = (value: z.ZodNumber | z.ZodInt) =>
  z
    .record(z.string(), value)
    .nullish()
    .transform((patterns) => patterns ?? {});

/** Keys of every adapter type. */
export const commonShape = {
  target_modules: names.default(null),
  layers_to_transform: z
    .union([z.int().nonnegative(), z.array(z.int().nonnegative())])
    .nullable()
    .default(null),
  layers_pattern: names.default(null),
  /** How the base stores its weights; the adapter's tensors look the same either way. */
  fan_in_fan_out: flag,
  base_model_name_or_path: z.string().nullable().default(null),
  revision: z.string().nullable().default(null),
  task_type: z.string().nullable().default(null),
  inference_mode: z.boolean().nullable().default(true),
  peft_version: z.string().nullable().default(PEFT_VERSION),
};

/** Keys of those that LoraConfig and its descendants have beside them. */
export const layerShape = {
  exclude_modules: names.default(null),
  modules_to_save: modulesToSave,
  trainable_token_indices: tokenIndices,
};
