import { UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { type Adapter as AdapterFiles, adapterSites, readAdapter, writeAdapter } from '../formats/peft.js';
import type { PeftConfig } from '../formats/peftConfig.js';
import type { BaseModel } from '../models/base.js';
import { type Adapter, emptyState } from './adapter.js';
import { methods } from './index.js';
import type { Method } from './method.js';

/** Writes an adapter as a PEFT folder into `folder`, which exists (see writeFolderAtomic). */
export async function writeAdapterFolder(
  folder: string,
  adapter: Adapter,
  baseName: string | null,
): Promise<void> {
  const { config, tensors } = toFiles(adapter);
  await writeAdapter(folder, { ...config, base_model_name_or_path: baseName }, tensors);
}

/** What the files of an adapter hold; shares its values. Throws UserError where the method has no adapter. */
export function toFiles({ method, config, values }: Adapter): AdapterFiles {
  if (!method.toPeft) {
    throw new UserError(`method ${method.name} has no adapter to save: its result is a whole model`);
  }
  const saved = method.savedTensors?.(config, values) ?? values;
  const tensors = new Map([...saved].map(([name, t]) => [name, { shape: t.dims, data: t.data }]));
  return { config: method.toPeft(config), tensors };
}

/** Reads a PEFT adapter folder for a model, as fromFiles. */
export async function loadAdapterFolder(folder: string, model: BaseModel): Promise<Adapter> {
  return fromFiles(folder, await readAdapter(folder), model);
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
      // readAdapter has seen that every site has all its parts.
      const found = tensors.get(name)!;
      if (String(found.shape) !== String(shape)) {
        throw new UserError(`${made}: ${name} is [${found.shape}], this model needs [${shape}]`);
      }
      return [name, f32(found.data, shape)];
    }),
  );
  return { method, config, trainables, values, state: emptyState() };
}

/** The method of a configuration, and its own configuration with what was saved as its targets. */
function methodOf(peft: PeftConfig, sites: readonly string[]): { method: Method<unknown>; config: unknown } {
  for (const method of Object.values(methods) as unknown as Method<unknown>[]) {
    const config = method.fromPeft?.(peft, sites);
    if (config !== undefined) return { method, config };
  }
  throw new Error(`no method reads ${peft.peft_type}`);
}
