import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { camelCase } from '../base/names.js';
import { checkJson } from '../formats/io/json.js';
import type { Method } from '../methods/method.js';

/** Options of `r: auto`. */
export const rankShape = {
  rankBudget: z
    .int()
    .positive()
    .optional()
    .describe('with --r auto: trainable parameters to spend (default: what r 8 costs on the targets)'),
  rankMax: z.int().positive().max(256).default(32).describe('with --r auto: the largest rank of a layer'),
  rankBatches: z
    .int()
    .positive()
    .default(8)
    .describe('with --r auto: batches of training rows over which the gradient is averaged'),
};
const rankSchema = z.object(rankShape);

export type RankInput = z.input<typeof rankSchema>;
export type RankSettings = z.output<typeof rankSchema>;

/** Throws UserError where a method's ranks may not differ from layer to layer, or are its own affair. */
export function requireRanks(method: Method<unknown>): void {
  const names = Object.keys(method.options.shape).map(camelCase);
  if (['r', 'rankPattern', 'alphaPattern'].every((name) => names.includes(name))) return;
  const reason = names.includes('targetR')
    ? 'it chooses the ranks itself while it trains, by target_r'
    : "its layers cannot differ in rank; lora's can";
  throw new UserError(`r "auto" is not for method ${method.name}: ${reason}`);
}

/** Checks the options of `r: auto`, and that the method is one for it. */
export function parseRankOptions(method: Method<unknown>, options: unknown): RankSettings {
  requireRanks(method);
  return checkJson('rank options', options, rankSchema);
}
