/** What an adapter, or a model that was tuned, changes of a base: layer by layer, each computed when it is asked for. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Update } from '../analysis/operator.js';
import { UserError } from '../base/errors.js';
import { Turns, type WorkOptions } from '../base/work.js';
import { isAdapterGguf } from '../formats/gguf/lora.js';
import { readGguf } from '../formats/gguf/reader.js';
import { exists } from '../formats/io/node.js';
import { readRecipe } from '../formats/quant/recipe.js';
import type { Runtime } from '../graph/runtime/session.js';
import type { Adapter } from '../methods/adapter.js';
import { checkAlike, difference } from '../methods/extract.js';
import { mergedTensors } from '../methods/merge.js';
import { productsOf } from '../methods/products.js';
import { type BaseModel, openModel } from '../models/base.js';
import { matrixName, type Site } from '../models/model.js';
import { readAdapterFor } from './adapterFile.js';
import { type LocateOptions, resolveModelFolder } from './locate.js';
import type { MatrixProducts } from './matrixProducts.js';
import { otherBase, recipeOf } from './quantizedBase.js';

/** The change of one layer's matrix. */
export interface Change {
  site: Site;
  /** Computes it; undefined where it turns out to be none. */
  update(): Promise<Update | undefined>;
}

/** Whether a folder or file holds a whole model, and no adapter. */
export async function holdsModel(at: string): Promise<boolean> {
  if (!(await stat(at)).isDirectory()) return !isAdapterGguf(await readGguf(at));
  return !(await exists(join(at, 'adapter_config.json'))) && (await exists(join(at, 'config.json')));
}

/**
 * The changes that `at` (an adapter or a tuned model; `place` names it) makes to the layers of a base, in the model's order. Throws UserError
 * where it is for another base, or changes no layer.
 */
export async function changesOf(
  place: string,
  at: string,
  base: BaseModel,
  engine: { runtime: Runtime; products: MatrixProducts },
  options: LocateOptions & WorkOptions = {},
): Promise<Change[]> {
  if (await holdsModel(at)) {
    const tuned = await openModel(await resolveModelFolder(at, options), options);
    return changesOfTuned(place, base, tuned, engine.products, options);
  }
  const adapter = await readAdapterFor(at, base, options);
  const other = otherBase(place, await readRecipe(at), await recipeOf(base));
  if (other) options.onNotice?.(other);
  return changesOfAdapter(place, adapter, base, engine, options);
}

/** The layers' products, and where the method's change is none, or the adapter has a matrix of its own: merged − W. */
function changesOfAdapter(
  place: string,
  adapter: Adapter,
  base: BaseModel,
  { runtime, products }: { runtime: Runtime; products: MatrixProducts },
  { onNotice }: LocateOptions,
): Change[] {
  const { method, trainables } = adapter;
  if (!method.card.merges && trainables.some(({ init }) => init !== null)) {
    throw new UserError(
      `${place}: what method ${method.name} trains is in no matrix of the model, so there is no change of one to analyze`,
    );
  }
  const merged = new Map(
    mergedTensors(runtime, base, adapter).tensors.map((tensor) => [tensor.name, tensor]),
  );
  const factors = productsOf(adapter, base);
  const changes = base.sites.flatMap((site): Change[] => {
    const product = factors.get(site.name);
    if (product) return [{ site, update: async () => ({ kind: 'product', ...product() }) }];
    const tensor = merged.get(`${site.name}.weight`);
    if (!tensor?.changed) return [];
    const from = matrixName(site);
    if (String(tensor.shape) !== String(base.parameters.get(from))) {
      onNotice?.(`${place}: ${site.name} has another vocabulary than the base's, and is left out`);
      return [];
    }
    const update = async (): Promise<Update | undefined> => {
      const [change, before] = [await tensor.values(), await base.checkpoint.read(from)];
      const data = Float32Array.from(change, (x, i) => x - before[i]);
      return denseUpdate(products, site, data);
    };
    return [{ site, update }];
  });
  if (changes.length === 0) throw new UserError(`${place} changes no matrix of a layer: nothing to analyze`);
  return changes;
}

/** The layers that differ. */
async function changesOfTuned(
  place: string,
  base: BaseModel,
  tuned: BaseModel,
  products: MatrixProducts,
  { onProgress, signal }: WorkOptions,
): Promise<Change[]> {
  checkAlike(base, tuned);
  const turns = new Turns(signal);
  // A head that is tied in both is in its embedding.
  const sites = base.sites.filter(
    ({ name }) => base.parameters.has(`${name}.weight`) || tuned.parameters.has(`${name}.weight`),
  );
  const changes: Change[] = [];
  for (const [i, site] of sites.entries()) {
    await turns.take();
    const read = () => difference(base, tuned, `${site.name}.weight`);
    if ((await read()).some((x) => x !== 0)) {
      changes.push({ site, update: async () => denseUpdate(products, site, await read()) });
    }
    onProgress?.({ what: `comparing ${place}`, done: i + 1, total: sites.length, unit: 'matrices' });
  }
  if (changes.length > 0) return changes;
  throw new UserError(`${place} has the same layers as ${base.folder}: nothing to analyze`);
}

/** In the layer's direction: an embedding's matrix lies transposed. */
function denseUpdate(products: MatrixProducts, site: Site, data: Float32Array): Update | undefined {
  const change = products.dense(data, [site.out, site.in], site.kind === 'embedding');
  return change.norm === 0 ? undefined : { kind: 'dense', change };
}
