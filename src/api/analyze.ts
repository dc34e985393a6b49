/** Looks inside an adapter, or what else changes a base: layer by layer, and what it comes to. */
import * as z from 'zod';
import { INTRUDER_RULE } from '../analysis/intruders.js';
import { analyzeModule, type ModuleAnalysis } from '../analysis/module.js';
import { type Shares, sharesOf } from '../analysis/report.js';
import { type Finding, verdictOf } from '../analysis/verdict.js';
import { UserError } from '../base/errors.js';
import { refuseNonFinite } from '../base/finite.js';
import type { WorkOptions } from '../base/work.js';
import { type BaseRecipe, readRecipe } from '../formats/quant/recipe.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { matchTargets, parseTargets } from '../methods/targets.js';
import type { BaseModel } from '../models/base.js';
import { matrixName } from '../models/model.js';
import { baseNamedBy } from './adapterFile.js';
import { checkArguments } from './arguments.js';
import { type Change, changesOf, holdsModel } from './changes.js';
import { locate } from './locate.js';
import { MatrixProducts } from './matrixProducts.js';
import { type BaseOptions, openBase, quantizeOption, resolveBase } from './quantizedBase.js';

/** Options of an analysis. */
export const analyzeShape = {
  quantize: quantizeOption.describe(
    'quantize the linear layers of the base, as they lay when the adapter was trained',
  ),
  modules: z
    .string()
    .min(1)
    .optional()
    .describe(
      'layers to look at: names with commas between, a regular expression, or all-linear (default: all that change)',
    ),
  directions: z
    .int()
    .positive()
    .max(1024)
    .optional()
    .describe(
      'singular directions that are compared and set beside W (default: the rank, at most 64; 8 of a full change)',
    ),
  seed: z.int().nonnegative().default(0).describe('of the random matrices and of the randomized SVD'),
  intruderK: z
    .int()
    .positive()
    .max(1024)
    .default(INTRUDER_RULE.k)
    .describe('leading directions of W + dW among which intruders are counted'),
  intruderEpsilon: z
    .number()
    .gt(0)
    .max(1)
    .default(INTRUDER_RULE.epsilon)
    .describe('one is an intruder where its cosine to each direction of W is below this'),
};
const analyzeSchema = z.strictObject(analyzeShape);

export interface AnalyzeInput extends BaseOptions, WorkOptions, z.input<typeof analyzeSchema> {
  /** The base: a folder, a GGUF file or a hub id; default: the one that the adapters name. */
  model?: string;
}

/** A layer that is done, and how many of how many that makes. */
export interface AnalyzeEvent {
  module: ModuleAnalysis;
  done: number;
  of: number;
}

export interface Analysis {
  adapter: string;
  other?: string;
  model: string;
  options: z.output<typeof analyzeSchema>;
  modules: ModuleAnalysis[];
  shares: Shares;
  /** What it means, by the rules of docs/analysis.md. */
  verdict: Finding[];
}

/**
 * Analyses what `adapter` changes of its base, and sets it beside `other` where one is given, else beside random matrices: each an
 * adapter of any format and of any method that merges, or a whole model that was tuned from `model`. Yields each layer when it is done.
 * docs/analysis.md has the definitions. Throws UserError where they are for other bases, or do not change the same layers.
 */
export async function* analyze(
  adapter: string,
  other: string | undefined,
  { model, onNotice, onDownload, onProgress, signal, ...given }: AnalyzeInput = {},
): AsyncGenerator<AnalyzeEvent, Analysis, void> {
  checkArguments('analyze', [adapter, other]);
  const options = parse(given);
  const find = { onNotice, onDownload };
  const places = [adapter, ...(other === undefined ? [] : [other])];
  const found: Found[] = [];
  for (const place of places) found.push({ place, at: await locate(place, find) });
  const name = model ?? (await commonBase(found));
  const { quantize } = options;
  const resolved = await resolveBase(name, { ...find, quantize }, await alternationOf(found, quantize));
  const base = await openBase(resolved, find);
  const runtime = new NodeRuntime();
  try {
    const products = await MatrixProducts.create(runtime, signal);
    const changes: Change[][] = [];
    for (const { place, at } of found) {
      const all = await changesOf(place, at, base, { runtime, products }, { ...find, onProgress, signal });
      changes.push(chosen(place, all, options.modules));
    }
    const [own, theirs] = changes;
    if (theirs) checkSameModules(found, own, theirs);
    const modules: ModuleAnalysis[] = [];
    for (const [i, { site, update }] of own.entries()) {
      signal?.throwIfAborted();
      const change = await update();
      const beside = await theirs?.[i].update();
      if (theirs && !change !== !beside) {
        throw onlyOne(...((change ? found : [...found].reverse()) as [Found, Found]), [site.name]);
      }
      if (!change) continue;
      const w = await weightOf(base, site, products);
      const rule = { k: options.intruderK, epsilon: options.intruderEpsilon };
      const { directions, seed } = options;
      const module = await analyzeModule(site.name, w, change, beside, { directions, seed, rule });
      modules.push(module);
      yield { module, done: i + 1, of: own.length };
    }
    if (modules.length === 0) throw new UserError(`${adapter} changes nothing of ${name}`);
    return {
      adapter,
      ...(other !== undefined && { other }),
      model: name,
      options,
      modules,
      shares: sharesOf(modules),
      verdict: verdictOf(modules),
    };
  } finally {
    await runtime.close();
  }
}

interface Found {
  place: string;
  at: string;
}

/** The base that adapters name. Throws UserError where they name two or none, or where one is a whole model. */
async function commonBase(found: readonly Found[]): Promise<string> {
  const names = new Map<string, string>();
  for (const { place, at } of found) {
    if (await holdsModel(at)) continue;
    const base = await baseNamedBy(at);
    if (base !== null) names.set(base, place);
  }
  const [first, second] = names;
  if (second) {
    throw new UserError(
      `${first[1]} is for the base ${first[0]} and ${second[1]} for ${second[0]}: if these are one, name it as the model`,
    );
  }
  if (first) return first[0];
  throw new UserError(
    `${found[0].place} names no base: name the model that it was made of, by --model on the command line`,
  );
}

function chosen(place: string, changes: readonly Change[], modules: string | undefined): Change[] {
  if (modules === undefined) return [...changes];
  const sites = changes.map(({ site }) => site);
  const named = new Set(matchTargets(parseTargets(modules), sites, ['linear', 'embedding'], 'modules'));
  if (named.size === 0)
    throw new UserError(`${place}: modules ${modules} names none of the layers that it changes`);
  return changes.filter(({ site }) => named.has(site));
}

function checkSameModules(
  [one, two]: readonly Found[],
  own: readonly Change[],
  theirs: readonly Change[],
): void {
  const [names, others] = [own, theirs].map((changes) => changes.map(({ site }) => site.name));
  const without = (all: readonly string[], some: readonly string[]) =>
    all.filter((name) => !some.includes(name));
  const [only, alsoOnly] = [without(names, others), without(others, names)];
  if (only.length > 0) throw onlyOne(one, two, only);
  if (alsoOnly.length > 0) throw onlyOne(two, one, alsoOnly);
}

function onlyOne(has: Found, lacks: Found, names: readonly string[]): UserError {
  const more = names.length > 1 ? ` and ${names.length - 1} more` : '';
  return new UserError(
    `${has.place} changes ${names[0]}${more}, and ${lacks.place} does not: choose layers of both by the option modules`,
  );
}

/** LoftQ's recipe of the base in a format, where the first of the adapters was trained over such a one. */
async function alternationOf([{ at }]: readonly Found[], format: BaseRecipe['format'] | undefined) {
  const recipe = format && (await readRecipe(at));
  return recipe?.format === format ? recipe?.loftq : undefined;
}

/** W in the layer's direction. */
async function weightOf(base: BaseModel, site: Change['site'], products: MatrixProducts) {
  const name = matrixName(site);
  const data = await base.checkpoint.read(name);
  refuseNonFinite(base.folder, name, data);
  return products.dense(data, [site.out, site.in], site.kind === 'embedding');
}

function parse(given: z.input<typeof analyzeSchema>): z.output<typeof analyzeSchema> {
  const result = analyzeSchema.safeParse(given);
  if (result.success) return result.data;
  const [{ path, message }] = result.error.issues;
  throw new UserError(`analysis options: ${path.join('.')}: ${message}`);
}
