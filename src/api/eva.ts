import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';

/** Options of `initLoraWeights: eva` beside PEFT's. */
export const evaShape = {
  evaBatches: z
    .int()
    .positive()
    .default(16)
    .describe(
      'with --init-lora-weights eva: the most batches of training rows to look at; fewer once tau is reached',
    ),
};
const evaSchema = z.object(evaShape);

export type EvaInput = z.input<typeof evaSchema>;
export type EvaSettings = z.output<typeof evaSchema>;

export function parseEvaOptions(options: unknown): EvaSettings {
  return checkJson('EVA options', options, evaSchema);
}
