import { UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { type Adapter as AdapterFiles, readAdapter, writeAdapter } from '../formats/peft.js';
import type { PeftConfig } from '../formats/peftConfig.js';
import { adapterSites, splitModuleKey } from '../formats/peftNames.js';
import type { BaseModel } from '../models/base.js';
import { type Adapter, emptyState } from './adapter.js';
import { allMethods } from './index.js';
import type { Method } from './method.js';
import { loadOwnFolder, ownConfigOf, writeOwnFolder } from './ownFiles.js';

/** Writes an adapter as a PEFT folder, or in its method's own form, into `folder`, which exists (see writeFolderAtomic). */
export async function writeAdapterFolder(
  folder: string,
  adapter: Adapter,
  baseName: string | null,
): Promise<void> {
  if (adapter.method.folder) return writeOwnFolder(folder, adapter, baseName);
  const { config, tensors } = toFiles(adapter);
  await writeAdapter(folder, { ...config, base_model_name_or_path: baseName }, tensors);
}

/** What the files of an adapter hold; shares its values. Throws UserError where the method has no adapter. */
export function toFiles({ method, config, values, state }: Adapter): AdapterFiles {
  if (!method.toPeft) {
    throw new UserError(`method ${method.name} has no adapter to save: its result is a whole model`);
  }
  const saved = method.savedTensors?.(config, values) ?? values;
  const tensors = new Map([...saved].map(([name, t]) => [name, { shape: t.dims, data: t.data }]));
  return { config: method.toPeft(config, { values, state }), tensors };
}

/** Reads an adapter folder for a model, as fromReadFiles. */
export async function loadAdapterFolder(folder: string, model: BaseModel): Promise<Adapter> {
  const own = await ownConfigOf(folder);
  if (own) return loadOwnFolder(folder, own, model);
  return fromReadFiles(folder, await readAdapter(folder), model);
}

/**
 * As fromFiles, of files that came from elsewhere: PEFT saves the base's matrix of an adapted embedding or head along,
 * and one that differs by more than rounding is of a base that was changed or resized. Throws UserError there.
 */
export async function fromReadFiles(place: string, files: AdapterFiles, model: BaseModel): Promise<Adapter> {
  const adapter = fromFiles(place, files, model);
  for (const [name, { data }] of files.tensors) {
    const carried = splitModuleKey(name);
    if (carried?.part !== 'base_weight') continue;
    const site = model.sites.find((s) => s.name === carried.module)!;
    const own = await model.checkpoint.read(`${site.tiedTo ?? site.name}.weight`);
    if (differs(data, own)) {
      throw new UserError(
        `${place} was made for another base than ${model.folder}: it holds another matrix of ${site.name}`,
      );
    }
  }
  return adapter;
}

/** Whether two matrices differ by more than what bfloat16 leaves of one. */
function differs(saved: Float32Array, own: Float32Array): boolean {
  if (saved.length !== own.length) return true;
  let [difference, size] = [0, 0];
  for (let i = 0; i < own.length; i++) {
    difference += (own[i] - saved[i]) ** 2;
    size += own[i] ** 2;
  }
  return !(difference <= 2 ** -16 * size);
}

/**
 * The adapter on a model that files hold; `place` names them. Throws UserError where the adapter is not for this model:
 * a site that the model has not, or tensors of another size.
 */
export function fromFiles(
  place: string,
  { config: peft, tensors }: AdapterFiles,
  model: Pick<BaseModel, 'folder' | 'sites' | 'parameters'>,
): Adapter {
  const sites = adapterSites(tensors);
  const made = `${place} was made for another base than ${model.folder}`;
  for (const name of sites) {
    if (!model.sites.some((s) => s.name === name)) {
      throw new UserError(`${made}: the model has no layer ${name}`);
    }
  }
  const { method, config } = methodOf(peft, sites);
  const trainables = method.select(config, model);
  const values = new Map(
    trainables.map(({ name, shape }) => {
      const found = tensors.get(name);
      if (!found) throw new UserError(`${place} lacks ${name}, which its configuration asks for`);
      if (String(found.shape) !== String(shape)) {
        throw new UserError(`${made}: ${name} is [${found.shape}], this model needs [${shape}]`);
      }
      return [name, f32(found.data, shape)];
    }),
  );
  for (const name of tensors.keys()) {
    const carried = splitModuleKey(name);
    const known =
      values.has(name) ||
      (carried?.part === 'base_weight' && model.sites.some(({ name: site }) => site === carried.module));
    if (!known) throw new UserError(`${made}: the model has no place for ${name}`);
  }
  return { method, config, trainables, values, state: emptyState() };
}

/** The method of a configuration, and its own configuration with what was saved as its targets. */
function methodOf(peft: PeftConfig, sites: readonly string[]): { method: Method<unknown>; config: unknown } {
  for (const method of allMethods) {
    const config = method.fromPeft?.(peft, sites);
    if (config !== undefined) return { method, config };
  }
  throw new Error(`no method reads ${peft.peft_type}`);
}
