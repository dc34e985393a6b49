/** A LoRA that does what another method's adapter does, or the nearest to it of a rank. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { energy as energyOf, matrix, transpose } from '../base/linalg/matrix.js';
import { productSvd, type Svd } from '../base/linalg/svd.js';
import { Turns } from '../base/work.js';
import { targetsOf } from '../formats/adapterNames.js';
import type { AdapterFiles, AdapterTensor } from '../formats/peft.js';
import { isPlainLora, type PeftConfig, peftLoraConfig, trainableTokens } from '../formats/peftConfig.js';
import { adapterKey, splitModuleKey } from '../formats/peftNames.js';
import type { Runtime } from '../graph/runtime/session.js';
import type { BaseModel } from '../models/base.js';
import { matrixName, type Site } from '../models/model.js';
import { type Adapter, targetSites } from './adapter.js';
import { isCarried } from './carried.js';
import { toFiles } from './files.js';
import { given } from './layerOptions.js';
import { type MergedTensor, mergedTensors } from './merge.js';
import { moduleOf } from './modelTensors.js';
import { productsOf } from './products.js';
import {
  capturedBy,
  factorsOf,
  leadingPart,
  rankFor,
  ranksConfig,
  type TruncatedLayer,
  truncationShape,
} from './truncate.js';

/** Rank of a change that has any number of directions, where nothing is asked for. */
const DENSE_RANK = 64;

/** How much of a change the LoRA is to hold. */
export const toLoraShape = {
  r: z
    .int()
    .positive()
    .optional()
    .describe(
      `the largest rank of a layer (default: all that its change has, and without --energy ${DENSE_RANK} of one that is no product)`,
    ),
  energy: truncationShape.energy.describe(
    "give each layer the lowest rank that holds this share of its change's energy",
  ),
};
export type ToLoraOptions = z.output<z.ZodObject<typeof toLoraShape>>;

/**
 * A LoRA of what an adapter changes in each layer's matrix, by the SVD of the change, which is never formed where it is a product.
 * What the adapter trains beside matrices (biases, copies of modules, tokens) stays as it is. Yields each layer when it is done.
 * `place` names the adapter. Throws UserError where it is a LoRA already, or its method cannot be merged.
 */
export async function* toLora(
  place: string,
  adapter: Adapter,
  base: BaseModel,
  runtime: Runtime,
  options: ToLoraOptions,
  signal?: AbortSignal,
): AsyncGenerator<TruncatedLayer & { done: number; of: number }, AdapterFiles, void> {
  const { config, tensors } = filesOf(place, adapter);
  const sites = [...targetSites(adapter, base).values()];
  refuseOwnMatrices(place, adapter, sites);
  const svdOf = changesOf(adapter, base, runtime);
  const turns = new Turns(signal);
  const factors = new Map<string, AdapterTensor>();
  const ranks = new Map<string, number>();
  for (const [i, site] of sites.entries()) {
    await turns.take();
    const { name, in: width, out } = site;
    const { svd, total, limit } = await svdOf(site, options);
    const r = total === 0 ? 1 : rankFor(svd.s, total, { ...options, r: limit });
    const { a, b } = total === 0 ? nothing(site) : factorsOf(svd, r);
    const stem = site.kind === 'embedding' ? 'lora_embedding' : 'lora';
    factors.set(adapterKey(name, `${stem}_A`), a).set(adapterKey(name, `${stem}_B`), b);
    ranks.set(name, r);
    const captured = capturedBy(svd.s, total, r);
    yield { site: name, out, in: width, r, norm: Math.sqrt(total), captured, done: i + 1, of: sites.length };
  }
  const beside = [...tensors].filter(([key]) => splitModuleKey(key) !== undefined);
  return { config: configOf(config, ranks, sites), tensors: new Map([...factors, ...beside]) };
}

/** What the adapter's own files hold. */
function filesOf(place: string, adapter: Adapter): AdapterFiles {
  const { method } = adapter;
  if (!method.card.merges) {
    throw new UserError(
      `${place}: what method ${method.name} trains is in no matrix of the model, so no LoRA can do the same`,
    );
  }
  const files = toFiles(adapter);
  if (!isPlainLora(files.config)) return files;
  throw new UserError(`${place} is a LoRA adapter already; lowrank resize lowers its ranks`);
}

/** Refuses targets of which the adapter has a matrix of its own: a LoRA changes the base's. */
function refuseOwnMatrices(place: string, { trainables }: Adapter, sites: readonly Site[]): void {
  const own = new Set(trainables.filter(isCarried).map(({ name }) => moduleOf(name)));
  const site = sites.find(({ name, tiedTo }) => own.has(name) || (tiedTo !== undefined && own.has(tiedTo)));
  if (!site) return;
  throw new UserError(
    `${place} changes ${site.name}, of which it brings a matrix of its own along, as after a change of the vocabulary: merge it instead`,
  );
}

/** What computes a layer's change: its leading directions, ‖change‖², and how many directions it may be given. */
function changesOf(adapter: Adapter, base: BaseModel, runtime: Runtime) {
  const products = productsOf(adapter, base);
  let merged: ReadonlyMap<string, MergedTensor> | undefined;
  return async (site: Site, options: ToLoraOptions): Promise<{ svd: Svd; total: number; limit: number }> => {
    const product = products.get(site.name)?.();
    if (product) {
      const limit = options.r ?? Number.POSITIVE_INFINITY;
      const none = { u: matrix(site.out, 0), s: new Float64Array(), vt: matrix(0, site.in) };
      const svd = product.a.rows === 0 ? none : productSvd(product.b, product.a);
      return { svd, total: energyOf(svd.s), limit };
    }
    merged ??= new Map(mergedTensors(runtime, base, adapter).tensors.map((tensor) => [tensor.name, tensor]));
    const [after, before] = [
      await merged.get(`${site.name}.weight`)!.values(),
      await base.checkpoint.read(matrixName(site)),
    ];
    const data = after.map((x, i) => x - before[i]);
    const change =
      site.kind === 'embedding'
        ? transpose(matrix(site.in, site.out, data))
        : matrix(site.out, site.in, data);
    const limit = options.r ?? (options.energy === undefined ? DENSE_RANK : Number.POSITIVE_INFINITY);
    return { svd: leadingPart(change, { ...options, r: limit }), total: energyOf(data), limit };
  };
}

/** The factors of no change. */
function nothing({ in: width, out }: Site): { a: AdapterTensor; b: AdapterTensor } {
  return {
    a: { shape: [1, width], data: new Float32Array(width) },
    b: { shape: [out, 1], data: new Float32Array(out) },
  };
}

/** LoRA's configuration of those ranks, with what the adapter has beside its matrices. */
function configOf(config: PeftConfig, ranks: ReadonlyMap<string, number>, sites: readonly Site[]) {
  const bias = 'bias' in config ? config.bias : 'none';
  const tokens = Object.fromEntries(
    [...trainableTokens(config)].map(([module, rows]) => [module, [...rows]]),
  );
  return peftLoraConfig({
    ...ranksConfig(ranks),
    ...targetsOf([...ranks.keys()]),
    ...given('fan_in_fan_out', sites.some(({ layout }) => layout === 'conv1d') || undefined),
    bias: bias === 'none' || bias === 'all' ? bias : 'lora_only',
    modules_to_save: config.modules_to_save,
    ...given('trainable_token_indices', Object.keys(tokens).length > 0 ? tokens : undefined),
    task_type: config.task_type,
  });
}
