/** Weighted combination of LoRA adapters into one, as PEFT's add_weighted_adapter does it, on what their files hold. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { type Matrix, matrix, multiply, scaleColumns, toFloat32 } from '../base/linalg/matrix.js';
import { leading, productSvd, type Svd, truncatedSvd } from '../base/linalg/svd.js';
import { Rng } from '../base/rng.js';
import { Turns } from '../base/work.js';
import { targetsOf } from '../formats/adapterNames.js';
import { checkJson } from '../formats/io/json.js';
import type { AdapterFiles, AdapterTensor } from '../formats/peft.js';
import { isPlainLora, kindName, type PeftLoraConfig, scalingOf } from '../formats/peftConfig.js';
import { adapterSites, splitModuleKey } from '../formats/peftNames.js';
import { haveEqualValues } from './carried.js';
import { electedMean, keepLargest, keepRandom, weightedSum } from './taskArithmetic.js';

/** Ways to combine, as PEFT names them. Those without svd work on A and B apart, those with it on their products. */
export const combinations = [
  'svd',
  'linear',
  'cat',
  'ties',
  'ties_svd',
  'dare_ties',
  'dare_linear',
  'dare_ties_svd',
  'dare_linear_svd',
  'magnitude_prune',
  'magnitude_prune_svd',
] as const;
export type Combination = (typeof combinations)[number];

/** How to combine. The command line makes its flags and their help from this. */
export const combineSchema = z.strictObject({
  combination: z
    .enum(combinations)
    .default('svd')
    .describe('how: cat is the exact sum, of all ranks together; svd the nearest to it of one rank'),
  svdRank: z
    .int()
    .positive()
    .optional()
    .describe('rank of what svd and *_svd make (default: the largest of theirs)'),
  svdClamp: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe('svd and *_svd: quantile of the values beyond which they are cut'),
  density: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe('share of the values that pruning keeps, for ties, dare_* and magnitude_prune*'),
  majoritySignMethod: z
    .enum(['total', 'frequency'])
    .default('total')
    .describe('ties: elect a sign by the sum of the values, or by how many have it'),
  seed: z.int().nonnegative().default(0).describe("of dare's random pruning"),
});
export type CombineOptions = z.output<typeof combineSchema>;
export type CombineInput = z.input<typeof combineSchema>;

/** Checks options and fills in defaults. Throws UserError prefixed with `place`. */
export function parseCombineOptions(place: string, options: unknown): CombineOptions {
  return checkJson(place, options, combineSchema);
}

/** An adapter to combine. */
export interface Part {
  /** Names it in errors. */
  name: string;
  adapter: AdapterFiles;
  weight: number;
}

/** The matrices of one adapter at a site. */
interface Pair {
  name: string;
  /** [r, in] and [out, r]. */
  a: AdapterTensor;
  b: AdapterTensor;
  /** What the adapter multiplies their product with. */
  scale: number;
  weight: number;
}

/** A combination by elements, of A and B apart or, bySvd, of their products. */
interface Split {
  method: 'linear' | 'cat' | 'ties' | 'dare_linear' | 'dare_ties' | 'magnitude_prune';
  bySvd: boolean;
}

function split(combination: Combination): Split {
  if (combination === 'svd') return { method: 'cat', bySvd: true };
  return {
    method: combination.replace(/_svd$/, '') as Split['method'],
    bySvd: combination.endsWith('_svd'),
  };
}

/**
 * One LoRA adapter out of several, whose scale is 1 everywhere (lora_alpha = r). A site that only some of them have
 * comes from those. Throws UserError where one is more than plain LoRA, where their sizes do not fit each other or the
 * combination, or where an option is missing.
 */
export function combineAdapters(
  parts: readonly Part[],
  options: CombineOptions,
): AdapterFiles & { config: PeftLoraConfig } {
  const work = combining(parts, options);
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}

/** The same, in turns with the event loop. */
export async function combineInTurns(
  parts: readonly Part[],
  options: CombineOptions,
): Promise<AdapterFiles & { config: PeftLoraConfig }> {
  const turns = new Turns();
  const work = combining(parts, options);
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
    await turns.take();
  }
}

/** Yields before each site. */
function* combining(
  parts: readonly Part[],
  options: CombineOptions,
): Generator<undefined, AdapterFiles & { config: PeftLoraConfig }, void> {
  if (parts.length === 0) throw new UserError('there is no adapter to combine');
  const { combination } = options;
  const { method, bySvd } = split(combination);
  if (method !== 'linear' && method !== 'cat' && options.density === undefined) {
    throw new UserError(
      `combination ${combination} needs the option "density", the share of the values to keep`,
    );
  }
  for (const key of ['svdRank', 'svdClamp'] as const) {
    if (options[key] === undefined || bySvd) continue;
    throw new UserError(`combination ${combination} takes no ${key}: it is for svd and *_svd`);
  }
  const sites = pairsBySite(parts);
  const largest = Math.max(...[...sites.values()].flat().map(({ a }) => a.shape[0]));
  const combined = new Map<string, ReturnType<typeof combineSite>>();
  for (const [site, pairs] of sites) {
    yield;
    combined.set(site, combineSite(site, pairs, largest, options));
  }
  const r = Math.max(...[...combined.values()].map(({ a }) => a.shape[0]));
  const tensors = new Map<string, AdapterTensor>();
  for (const [site, { a, b }] of combined) {
    const [down, up] = namesOf(site);
    tensors.set(down, padRows(a, r));
    tensors.set(up, padColumns(b, r));
  }
  for (const [key, matrix] of carriedBy(parts)) tensors.set(key, matrix);
  const first = parts[0].adapter.config as PeftLoraConfig;
  const config: PeftLoraConfig = {
    ...first,
    r,
    lora_alpha: r,
    rank_pattern: {},
    alpha_pattern: {},
    // PEFT keeps the first adapter's, and with it multiplies the product by √r.
    use_rslora: false,
    exclude_modules: null,
    layers_pattern: null,
    ...targetsOf(adapterSites(tensors)),
  };
  return { config, tensors };
}

/** A site's key in here: its tensors' names without the A or B at the end. */
function namesOf(site: string): [a: string, b: string] {
  return [`${site}A`, `${site}B`];
}

function pairsBySite(parts: readonly Part[]): Map<string, Pair[]> {
  const sites = new Map<string, Pair[]>();
  for (const { name, adapter, weight } of parts) {
    const { config, tensors } = adapter;
    if (!isPlainLora(config)) {
      throw new UserError(`${name} is a ${kindName(config)} adapter, and only plain LoRA can be combined`);
    }
    for (const [key, a] of tensors) {
      if (splitModuleKey(key)?.part === 'base_weight') continue;
      const match = /^(.+)\.(lora_(?:embedding_)?)([AB])$/.exec(key);
      if (match === null) throw new UserError(`${name}: ${key} is no LoRA matrix, and cannot be combined`);
      const [, module, kind, end] = match;
      if (end === 'B') continue;
      const site = `${module}.${kind}`;
      const pair = { name, a, b: tensors.get(`${site}B`)!, scale: scalingOf(config, module), weight };
      const pairs = sites.get(site) ?? [];
      if (pairs.length > 0) checkSizes(module, pairs[0], pair);
      sites.set(site, [...pairs, pair]);
    }
  }
  return sites;
}

/** The base's matrices that the adapters bring along: the combination's own, where those who have one agree. */
function carriedBy(parts: readonly Part[]): Map<string, AdapterTensor> {
  const carried = new Map<string, { name: string; matrix: AdapterTensor }>();
  for (const { name, adapter } of parts) {
    for (const [key, matrix] of adapter.tensors) {
      const own = splitModuleKey(key);
      if (own?.part !== 'base_weight') continue;
      const known = carried.get(key);
      if (known && !haveEqualValues(known.matrix, matrix)) {
        throw new UserError(
          `${known.name} and ${name} bring two matrices of ${own.module} along: these are for two bases`,
        );
      }
      carried.set(key, { name, matrix });
    }
  }
  return new Map([...carried].map(([key, { matrix }]) => [key, matrix]));
}

function checkSizes(module: string, first: Pair, pair: Pair): void {
  const [one, other] = [first, pair].map(({ a, b }) => `${b.shape[0]} × ${a.shape[1]}`);
  if (one === other) return;
  throw new UserError(
    `${module} is ${one} in ${first.name} and ${other} in ${pair.name}: these are for two bases`,
  );
}

function combineSite(
  site: string,
  pairs: readonly Pair[],
  largestRank: number,
  options: CombineOptions,
): Pick<Pair, 'a' | 'b'> {
  const { method, bySvd } = split(options.combination);
  if (bySvd) {
    const { a, b } = concatenated(pairs);
    const rank = Math.min(options.svdRank ?? largestRank, a.shape[1], b.shape[0]);
    const terms =
      method === 'cat'
        ? productSvd(matrixOf(b), matrixOf(a))
        : truncatedSvd(mixedProduct(site, pairs, method, options), rank);
    return fromSvd(leading(terms, Math.min(rank, terms.s.length)), options.svdClamp);
  }
  if (method === 'cat') return concatenated(pairs);
  const [{ a, b }] = pairs;
  for (const pair of pairs) {
    if (pair.a.shape[0] === a.shape[0]) continue;
    throw new UserError(
      `${moduleOf(site)} has r ${a.shape[0]} in ${pairs[0].name} and ${pair.a.shape[0]} in ${pair.name}: ` +
        `${method} needs equal ranks, cat and those by svd take any`,
    );
  }
  // PEFT gives A and B the square root each, and a negative sign to A.
  const factors = pairs.map(({ weight, scale }) => weight * scale);
  const roots = factors.map((factor) => Math.sqrt(Math.abs(factor)));
  const signed = roots.map((root, i) => (factors[i] < 0 ? -root : root));
  const of = (part: 'a' | 'b', weights: readonly number[]) => {
    const tensors = pairs.map((pair) => pair[part].data);
    return mixed(`${site}${part}`, tensors, weights, method, options);
  };
  return {
    a: { shape: a.shape, data: of('a', signed) },
    b: { shape: b.shape, data: of('b', roots) },
  };
}

/** "model.layers.0.self_attn.q_proj" of "model.layers.0.self_attn.q_proj.lora_". */
function moduleOf(site: string): string {
  return site.slice(0, site.lastIndexOf('.'));
}

const matrixOf = ({ shape, data }: AdapterTensor) => matrix(shape[0], shape[1], data);

/** The products scale·B·A in full, [out, in], combined by elements. */
function mixedProduct(
  site: string,
  pairs: readonly Pair[],
  method: Split['method'],
  options: CombineOptions,
): Matrix {
  const products = pairs.map(({ a, b, scale }) =>
    toFloat32(multiply(matrixOf(b), matrixOf(a))).map((x) => x * scale),
  );
  const weights = pairs.map(({ weight }) => weight);
  const data = mixed(site, products, weights, method, options);
  return matrix(pairs[0].b.shape[0], pairs[0].a.shape[1], data);
}

/** B = u·diag(s) and A = vt, cut where they are beyond a quantile of their values, which count with their signs as in PEFT. */
function fromSvd({ u, s, vt }: Svd, clamp: number | undefined): Pick<Pair, 'a' | 'b'> {
  let a = toFloat32(vt);
  let b = toFloat32(scaleColumns(u, s));
  if (clamp !== undefined) {
    const sorted = new Float32Array(a.length + b.length);
    sorted.set(b);
    sorted.set(a, b.length);
    const limit = quantile(sorted.sort(), clamp);
    const cut = (x: number) => Math.min(limit, Math.max(-limit, x));
    [a, b] = [a.map(cut), b.map(cut)];
  }
  return { a: { shape: [vt.rows, vt.columns], data: a }, b: { shape: [u.rows, u.columns], data: b } };
}

/** With linear interpolation. */
function quantile(sorted: Float32Array, q: number): number {
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  const next = sorted[Math.min(low + 1, sorted.length - 1)];
  return sorted[low] + (at - low) * (next - sorted[low]);
}

/** One tensor out of several by a combination that works by elements; `stream` names what is drawn. */
function mixed(
  stream: string,
  tensors: readonly Float32Array[],
  weights: readonly number[],
  method: Split['method'],
  { density = 1, majoritySignMethod, seed }: CombineOptions,
): Float32Array {
  const largest = () => tensors.map((t) => keepLargest(t, density));
  const random = () => tensors.map((t, i) => keepRandom(t, density, new Rng(seed, `dare ${stream} ${i}`)));
  switch (method) {
    case 'ties':
      return electedMean(largest(), weights, majoritySignMethod);
    case 'dare_ties':
      return electedMean(random(), weights, majoritySignMethod);
    case 'dare_linear':
      return weightedSum(random(), weights);
    case 'magnitude_prune':
      return weightedSum(largest(), weights);
    default:
      return weightedSum(tensors, weights);
  }
}

/** A of all below each other, times their factors, and B side by side: the exact sum of the products. */
function concatenated(pairs: readonly Pair[]): Pick<Pair, 'a' | 'b'> {
  const r = pairs.reduce((sum, { a }) => sum + a.shape[0], 0);
  const inputs = pairs[0].a.shape[1];
  const outputs = pairs[0].b.shape[0];
  const a = new Float32Array(r * inputs);
  const b = new Float32Array(outputs * r);
  let at = 0;
  for (const pair of pairs) {
    const rank = pair.a.shape[0];
    const factor = pair.weight * pair.scale;
    a.set(factor === 1 ? pair.a.data : pair.a.data.map((x) => x * factor), at * inputs);
    for (let row = 0; row < outputs; row++) {
      b.set(pair.b.data.subarray(row * rank, (row + 1) * rank), row * r + at);
    }
    at += rank;
  }
  return { a: { shape: [r, inputs], data: a }, b: { shape: [outputs, r], data: b } };
}

function padRows({ shape: [rows, columns], data }: AdapterTensor, r: number): AdapterTensor {
  if (rows === r) return { shape: [rows, columns], data };
  const padded = new Float32Array(r * columns);
  padded.set(data);
  return { shape: [r, columns], data: padded };
}

function padColumns({ shape: [rows, columns], data }: AdapterTensor, r: number): AdapterTensor {
  if (columns === r) return { shape: [rows, columns], data };
  const padded = new Float32Array(rows * r);
  for (let row = 0; row < rows; row++) padded.set(data.subarray(row * columns, (row + 1) * columns), row * r);
  return { shape: [rows, r], data: padded };
}
