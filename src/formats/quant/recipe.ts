/** How the layers of a base came to lie as they do: beside a base, and beside an adapter that was trained over it. */
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import * as z from 'zod';
import { exists, readJson } from '../io/node.js';
import { writeFileAtomic } from '../io/write.js';
import { type QuantFormat, quantFormats } from './index.js';

/** In the folder of a base that plain quantization does not give again, and of adapters over any quantized base. */
export const RECIPE_FILE = 'lowrank_base.json';

/** Matrices that were quantized in turns with a low-rank part (formats/quant/loftq.ts). */
export const alternationSchema = z.strictObject({
  iterations: z.int().min(2).max(100),
  /** The rank of each, by site. */
  ranks: z.record(z.string(), z.int().positive()),
});
export type BaseAlternation = z.output<typeof alternationSchema>;

const recipeSchema = z.strictObject({
  format: z.enum(quantFormats as [QuantFormat, ...QuantFormat[]]),
  /** Absent: each matrix by itself. */
  loftq: alternationSchema.optional(),
});
export type BaseRecipe = z.output<typeof recipeSchema>;

/** What a folder says of its base; undefined where it says nothing. Throws UserError where the file is broken. */
export async function readRecipe(folder: string): Promise<BaseRecipe | undefined> {
  const path = join(folder, RECIPE_FILE);
  return (await exists(path)) ? readJson(path, recipeSchema) : undefined;
}

export function writeRecipe(folder: string, recipe: BaseRecipe): Promise<void> {
  return writeFileAtomic(join(folder, RECIPE_FILE), `${JSON.stringify(recipe, null, 1)}\n`);
}

/** Whether two bases of one model, undefined for the original, hold the same weights. */
export function sameRecipe(a: BaseRecipe | undefined, b: BaseRecipe | undefined): boolean {
  return isDeepStrictEqual(a, b);
}

/** A recipe for people: "nf4", "nf4 (LoftQ, 5 iterations)". */
export function describeRecipe({ format, loftq }: BaseRecipe): string {
  return loftq ? `${format} (LoftQ, ${loftq.iterations} iterations)` : format;
}
