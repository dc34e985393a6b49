import { UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { type Adapter as AdapterFiles, readAdapter, writeAdapter } from '../formats/peft.js';
import type { PeftConfig } from '../formats/peftConfig.js';
import { adapterSites, splitAdapterKey, splitModuleKey } from '../formats/peftNames.js';
import type { BaseModel } from '../models/base.js';
import { type Adapter, emptyState } from './adapter.js';
import { allMethods } from './index.js';
import { given } from './layerOptions.js';
import type { Method } from './method.js';
import { loadOwnFolder, ownConfigOf, writeOwnFolder } from './ownFiles.js';
import { type TargetChoice, targetTest } from './targets.js';

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
 * and one that differs by more than rounding is of a base that was changed or resized. Throws UserError there. Tells of
 * layers that the configuration does not name, which are left out.
 */
export async function fromReadFiles(
  place: string,
  read: AdapterFiles,
  model: BaseModel,
  onNotice?: (message: string) => void,
): Promise<Adapter> {
  const files = ofTargets(place, read, model, onNotice);
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

/**
 * Files without the layers that their configuration does not name: PEFT passes over these, and so they change nothing.
 * Throws UserError where none is left.
 */
function ofTargets(
  place: string,
  files: AdapterFiles,
  { sites }: Pick<BaseModel, 'sites'>,
  onNotice?: (message: string) => void,
): AdapterFiles {
  const { config, tensors } = files;
  if (config.target_modules === null) return files;
  const isTarget = targetTest(choiceOf(config));
  const held = new Set(adapterSites(tensors));
  const beyond = sites.filter((site) => held.has(site.name) && !isTarget(site)).map(({ name }) => name);
  if (beyond.length === 0) return files;
  if (beyond.length === held.size) {
    throw new UserError(`${place}: its configuration's target_modules name none of the layers that it holds`);
  }
  const [first, ...others] = beyond;
  const more = others.length > 0 ? ` and ${others.length} more` : '';
  onNotice?.(
    `${place}: its configuration does not name ${first}${more}, so their matrices are left out, as in PEFT`,
  );
  const isLeftOut = (key: string) =>
    beyond.includes((splitAdapterKey(key)?.site ?? splitModuleKey(key)?.module)!);
  return { config, tensors: new Map([...tensors].filter(([key]) => !isLeftOut(key))) };
}

/** Which layers a configuration names. */
function choiceOf(config: PeftConfig): TargetChoice {
  const listed = <T>(value: T | readonly T[]) =>
    Array.isArray(value) ? (value as readonly T[]) : [value as T];
  const { target_modules: targets, layers_to_transform: layers, layers_pattern: patterns } = config;
  return {
    targetModules: targets!,
    ...given(
      'excludeModules',
      config.peft_type === 'VERA' ? undefined : (config.exclude_modules ?? undefined),
    ),
    ...given('layersToTransform', layers === null ? undefined : listed(layers)),
    ...given('layersPattern', patterns === null ? undefined : listed(patterns)),
    ...given('modulesToSave', config.modules_to_save ?? undefined),
  };
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
