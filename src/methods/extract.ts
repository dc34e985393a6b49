import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { energy, matrix } from '../base/linalg/matrix.js';
import { truncatedSvd } from '../base/linalg/svd.js';
import { targetsOf } from '../formats/adapterNames.js';
import type { AdapterFiles, AdapterTensor } from '../formats/peft.js';
import { peftLoraConfig } from '../formats/peftConfig.js';
import { adapterKey } from '../formats/peftNames.js';
import type { BaseModel } from '../models/base.js';
import { loraOptions } from './lora.js';
import { matchTargets, parseTargets } from './targets.js';
import {
  capturedBy,
  factorsOf,
  rankFor,
  ranksConfig,
  type TruncatedLayer,
  truncationShape,
} from './truncate.js';

export const extractShape = {
  ...truncationShape,
  targetModules: loraOptions.shape.target_modules.unwrap().default('all-linear').describe('layers to take'),
  iterations: z
    .int()
    .nonnegative()
    .default(4)
    .describe('power iterations of the truncated SVD; more come closer to the exact one'),
  seed: z.int().nonnegative().default(0).describe('of the truncated SVD'),
};
export type ExtractOptions = z.output<z.ZodObject<typeof extractShape>>;

export interface Extracted {
  adapter: AdapterFiles;
  /** Tensors that differ between the models and that the adapter has nothing of. */
  left: string[];
}

/**
 * A LoRA of what `tuned` has and `base` has not: the truncated SVD of each target's difference. Yields each layer when
 * it is done, those that are equal left out. Throws UserError where the models are not of one shape, or are the same.
 */
export async function* extractLora(
  base: BaseModel,
  tuned: BaseModel,
  { targetModules, iterations, seed, ...truncation }: ExtractOptions,
): AsyncGenerator<TruncatedLayer & { done: number; of: number }, Extracted, void> {
  checkAlike(base, tuned);
  // A head that is tied in both is in its embedding.
  const both = new Set([...base.parameters.keys(), ...tuned.parameters.keys()]);
  const sites = matchTargets(parseTargets(targetModules), base.sites).filter(({ name }) =>
    both.has(`${name}.weight`),
  );
  const tensors = new Map<string, AdapterTensor>();
  const ranks = new Map<string, number>();
  for (const [i, site] of sites.entries()) {
    const change = await difference(base, tuned, `${site.name}.weight`);
    const total = energy(change);
    if (total === 0) continue;
    const most = Math.min(truncation.r, site.in, site.out);
    const svd = truncatedSvd(matrix(site.out, site.in, change), most, { iterations, seed });
    const r = rankFor(svd.s, total, truncation);
    const { a, b } = factorsOf(svd, r);
    tensors.set(adapterKey(site.name, 'lora_A'), a).set(adapterKey(site.name, 'lora_B'), b);
    ranks.set(site.name, r);
    yield {
      site: site.name,
      out: site.out,
      in: site.in,
      r,
      norm: Math.sqrt(total),
      captured: capturedBy(svd.s, total, r),
      done: i + 1,
      of: sites.length,
    };
  }
  const taken = new Set(sites.map((site) => `${site.name}.weight`));
  const left = await thoseThatDiffer(
    base,
    tuned,
    [...both].filter((name) => !taken.has(name)),
  );
  if (ranks.size === 0) {
    const also = left.length > 0 ? `, which differ in ${left[0]} though` : '';
    throw new UserError(`${tuned.folder} has the same targets as ${base.folder}: nothing to extract${also}`);
  }
  const config = peftLoraConfig({
    ...ranksConfig(ranks),
    ...targetsOf([...ranks.keys()]),
    task_type: 'CAUSAL_LM',
  });
  return { adapter: { config, tensors }, left };
}

/** Throws UserError where two models are not of one shape. */
export function checkAlike(base: BaseModel, tuned: BaseModel): void {
  for (const [name, shape] of [...base.parameters, ...tuned.parameters]) {
    const [before, after] = [base, tuned].map((model) => model.parameters.get(heldBy(model, name)));
    if (before && after && String(before) === String(after)) continue;
    const [first, second] = before ? [base, tuned] : [tuned, base];
    const other = before ? after : undefined;
    throw new UserError(
      `${name} is [${shape}] in ${first.folder} and ${other ? `[${other}]` : 'not'} in ${second.folder}: ` +
        'these are not one model, tuned',
    );
  }
}

/** The tensor that a model has under a name: a tied head's matrix is that of its embedding. */
function heldBy(model: BaseModel, name: string): string {
  if (model.parameters.has(name)) return name;
  const site = model.sites.find((s) => `${s.name}.weight` === name);
  return site?.tiedTo ? `${site.tiedTo}.weight` : name;
}

/** What `tuned` has more in a tensor than `base`. Throws UserError where a value is not finite. */
export async function difference(base: BaseModel, tuned: BaseModel, name: string): Promise<Float32Array> {
  const [before, after] = await Promise.all(
    [base, tuned].map((model) => model.checkpoint.read(heldBy(model, name))),
  );
  for (const [i, x] of before.entries()) after[i] -= x;
  if (after.every(Number.isFinite)) return after;
  throw new UserError(`${name} of ${base.folder} or ${tuned.folder} has values that are not finite`);
}

async function thoseThatDiffer(
  base: BaseModel,
  tuned: BaseModel,
  names: readonly string[],
): Promise<string[]> {
  const differ: string[] = [];
  for (const name of names) if (energy(await difference(base, tuned, name)) > 0) differ.push(name);
  return differ;
}
