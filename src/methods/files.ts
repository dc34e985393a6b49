import { UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { copyTokenizer } from '../formats/companions.js';
import { type AdapterFiles, readAdapter, writeAdapter } from '../formats/peft.js';
import type { FoundStart, PeftConfig } from '../formats/peftConfig.js';
import { adapterSites, isEmbeddingName, splitAdapterKey, splitModuleKey } from '../formats/peftNames.js';
import { writeTask } from '../formats/taskFile.js';
import type { BaseModel } from '../models/base.js';
import type { Role, Site } from '../models/model.js';
import { type Adapter, createAdapter, emptyState } from './adapter.js';
import {
  carriedTensors,
  fileKeyOf,
  isCarried,
  resized,
  type Shapes,
  vocabularyOf,
  withoutBaseMatrices,
} from './carried.js';
import { headOf, trainablesOf, withHead, withoutOtherHeads, withoutPrefix } from './head.js';
import { allMethods, methodNamed } from './index.js';
import { given } from './layerOptions.js';
import type { Method, Trainable } from './method.js';
import { isShared, moduleOf } from './modelTensors.js';
import { loadOwnFolder, ownConfigOf, writeOwnFolder } from './ownFolders.js';
import { withinTargets } from './withinTargets.js';

/** Writes an adapter as a PEFT folder, or in its method's own form, into `folder`, which exists (see writeFolderAtomic). */
export async function writeAdapterFolder(
  folder: string,
  adapter: Adapter,
  baseName: string | null,
): Promise<void> {
  if (adapter.head) await writeTask(folder, adapter.head.task);
  if (adapter.method.folder) return writeOwnFolder(folder, adapter, baseName);
  const { config, tensors } = withoutPrefix(toFiles(adapter), adapter.head?.leaves ?? '');
  await writeAdapter(folder, { ...config, base_model_name_or_path: baseName }, tensors);
  const { tokenizer } = adapter;
  // One with another chat template only has the model's own files.
  if (tokenizer && tokenizer.folder !== tokenizer.model) await copyTokenizer(tokenizer.folder, folder);
}

/** What the files of an adapter hold; shares its values. Throws UserError where the method has no adapter. */
export function toFiles({ method, config, trainables, values, state, head }: Adapter): AdapterFiles {
  if (!method.toPeft) {
    throw new UserError(`method ${method.name} has no adapter to save: its result is a whole model`);
  }
  const saved = method.savedTensors?.(config, values) ?? values;
  const keys = new Map(trainables.map((t) => [t.name, fileKeyOf(t)]));
  const tensors = new Map(
    [...saved].map(([name, t]) => [keys.get(name) ?? name, { shape: t.dims, data: t.data }]),
  );
  const peft = withHead(method.toPeft(config, { values, state }), head);
  const pair = tiedCopyOf(peft, trainables);
  if (pair) tensors.set(`${HEAD}.base_weight`, tensors.get(pair)!);
  return { config: peft, tensors };
}

const HEAD = 'lm_head';

/** The copy of an embedding that its head sees too, which PEFT writes under both names. */
function tiedCopyOf(config: PeftConfig, trainables: readonly Trainable[]): string | undefined {
  if (config.peft_type !== 'LORA' || !config.ensure_weight_tying) return undefined;
  return trainables.find(
    (t) => t.init === null && isShared(t) && !isCarried(t) && isEmbeddingName(moduleOf(t.name)),
  )?.name;
}

/**
 * Files by the names that the model has for its layers: an adapter that was trained without a head, as on an AutoModel, lacks
 * the prefix of its class.
 */
function withModelNames(
  files: AdapterFiles,
  { network, sites, parameters }: Pick<BaseModel, 'network' | 'sites' | 'parameters'>,
): AdapterFiles {
  const { prefix } = network.names;
  const ofStacks = files.experts === undefined ? new Map<string, string>() : stackedNames(network, sites);
  const names = new Set(sites.map(({ name }) => name));
  const known = (module: string) => names.has(module) || parameters.has(`${module}.weight`);
  const renamed = [...files.tensors].map(([key, tensor]) => {
    const module = splitAdapterKey(key)?.site ?? splitModuleKey(key)?.module;
    const other = ofStacks.get(module ?? '');
    if (other !== undefined) return [key.replace(module!, other), tensor] as const;
    const lacks = module !== undefined && !known(module) && known(`${prefix}${module}`);
    return [lacks ? `${prefix}${key}` : key, tensor] as const;
  });
  return { ...files, tensors: new Map(renamed) };
}

/** What the matrices of experts and their router are called where transformers 5 has them, and here. */
function stackedNames({ names }: BaseModel['network'], sites: readonly Site[]): Map<string, string> {
  const last: Partial<Record<Role, string>> = {
    'mlp.gate': 'gate_proj',
    'mlp.up': 'up_proj',
    'mlp.down': 'down_proj',
  };
  return new Map(
    sites.flatMap(({ name, role, layer, expert }): [string, string][] => {
      const block = `${names.layers}${layer}.mlp`;
      if (role === 'router') return [[`${block}.gate`, name]];
      return expert === undefined ? [] : [[`${block}.experts.${expert}.${last[role]}`, name]];
    }),
  );
}

/** Throws UserError where files are of another number of experts than the model has. */
function checkExperts(made: string, { experts: held }: AdapterFiles, sites: readonly Site[]): void {
  if (!held) return;
  const experts = Math.max(0, ...sites.map(({ expert }) => (expert === undefined ? 0 : expert + 1)));
  if (experts !== held)
    throw new UserError(`${made}: by its rank it is for ${held} experts, and the model has ${experts}`);
}

/** Reads an adapter folder for a model, as fromReadFiles. */
export async function loadAdapterFolder(folder: string, model: BaseModel): Promise<Adapter> {
  const own = await ownConfigOf(folder);
  if (own) return loadOwnFolder(folder, own, model);
  return fromReadFiles(folder, await readAdapter(folder, { started: true }), model);
}

/**
 * As fromFiles, of files that came from elsewhere: PEFT saves the base's matrix of an adapted embedding or head along.
 * One that differs by more than rounding is of a base that was changed or resized, and takes the base's place, as in PEFT.
 * Tells of that, and of layers that the configuration does not name, which are left out.
 */
export async function fromReadFiles(
  place: string,
  read: AdapterFiles,
  model: BaseModel,
  onNotice?: (message: string) => void,
): Promise<Adapter> {
  checkExperts(madeFor(place, model), read, model.sites);
  const files = withModelNames(withinTargets(place, read, onNotice), model);
  const tensors = await withoutBaseMatrices(madeFor(place, model), files.tensors, model);
  const { config } = files;
  const head = model.sites.find(({ name }) => name === HEAD);
  const tied = config.peft_type === 'LORA' && config.ensure_weight_tying ? head?.tiedTo : undefined;
  if (tied !== undefined && tensors.has(`${tied}.weight`)) tensors.delete(`${HEAD}.base_weight`);
  if (tied !== undefined && adapterSites(tensors).includes(HEAD)) {
    onNotice?.(
      `${place}: ensure_weight_tying: the matrices of ${tied} and ${HEAD} are equal, and are read as two; trained further, they part`,
    );
  }
  const plain = fromFiles(place, { config, tensors }, model);
  const adapter = files.startedBy ? await startedAgain(place, files.startedBy, plain, model) : plain;
  const modules = model.sites.map(({ name }) => name).filter((name) => tensors.has(`${name}.base_weight`));
  if (modules.length > 0) {
    const size = adapter.vocabSize === undefined ? '' : `, of ${adapter.vocabSize} tokens`;
    onNotice?.(
      `${place}: its own matrix of ${modules.join(' and ')}${size}, is used in place of the model's, as in PEFT`,
    );
  }
  return adapter;
}

/**
 * A LoRA whose A and B started in a part of the base: PEFT takes that out of the base again when it loads the adapter, and so
 * do the methods here of that name. Throws UserError for what these do not have.
 */
async function startedAgain(
  place: string,
  start: FoundStart,
  plain: Adapter,
  model: BaseModel,
): Promise<Adapter> {
  const method = methodNamed(start);
  const sites = model.sites.filter((site) => plain.values.has(`${site.name}.lora_A`));
  const isTied = sites.some(({ tiedTo }) => tiedTo !== undefined);
  const embedding = [...plain.values.keys()].some((name) => name.includes('.lora_embedding_'));
  if (plain.method.name !== 'lora' || isTied || embedding || plain.vocabSize !== undefined) {
    throw new UserError(
      `${place}: init_lora_weights "${start}" with DoRA, on an embedding or a head tied to one, or with another vocabulary is not read; ` +
        "save it with PEFT's path_initial_model_for_weight_conversion, which makes it one for the original base",
    );
  }
  const { trainables, values } = await createAdapter(method, plain.config, model);
  return { ...plain, method, trainables, values: new Map([...values, ...plain.values]) };
}

/** The beginning of a sentence that says what does not fit. */
function madeFor(place: string, { folder }: Pick<BaseModel, 'folder'>): string {
  return `${place} was made for another base than ${folder}`;
}

/**
 * The adapter on a model that files hold; `place` names them. Throws UserError where the adapter is not for this model:
 * a site that the model has not, or tensors of another size.
 */
export function fromFiles(
  place: string,
  { config: peft, tensors }: AdapterFiles,
  model: Pick<BaseModel, 'folder' | 'network'> & Shapes,
): Adapter {
  const sites = adapterSites(tensors);
  const made = madeFor(place, model);
  const names = new Set(model.sites.map(({ name }) => name));
  for (const name of sites) {
    if (!names.has(name)) {
      throw new UserError(`${made}: the model has no layer ${name}`);
    }
  }
  const { method, config } = methodOf(withoutOtherHeads(peft, model), sites);
  const vocabSize = vocabularyOf(made, tensors, model);
  const carried = carriedTensors(made, tensors, model);
  // A plain adapter for a model that has its head already leaves that alone.
  const hasHead = model.trained.some((name) => tensors.has(name));
  const isEmbedding = model.network.config.task?.kind === 'embedding';
  const shapes = resized(model, vocabSize);
  const selected = hasHead ? trainablesOf(method, config, shapes) : method.select(config, shapes);
  const trainables = [...carried.map(([trainable]) => trainable), ...selected];
  const matrices = new Map(carried.map(([{ name }, matrix]) => [name, matrix]));
  const values = new Map(
    trainables.map(({ name, shape }) => {
      const found = matrices.get(name) ?? tensors.get(name);
      if (!found) throw new UserError(`${place} lacks ${name}, which its configuration asks for`);
      if (String(found.shape) !== String(shape)) {
        throw new UserError(`${made}: ${name} is [${found.shape}], this model needs [${shape}]`);
      }
      return [name, f32(found.data, shape)];
    }),
  );
  for (const name of tensors.keys()) {
    if (!values.has(name) && splitModuleKey(name)?.part !== 'base_weight')
      throw new UserError(`${made}: the model has no place for ${name}`);
  }
  return {
    method,
    config,
    trainables,
    values,
    state: emptyState(),
    ...given('vocabSize', vocabSize),
    ...given('head', hasHead || isEmbedding ? headOf(model) : undefined),
  };
}

/** The method of a configuration, and its own configuration with what was saved as its targets. */
function methodOf(peft: PeftConfig, sites: readonly string[]): { method: Method<unknown>; config: unknown } {
  for (const method of allMethods) {
    const config = method.fromPeft?.(peft, sites);
    if (config !== undefined) return { method, config };
  }
  throw new Error(`no method reads ${peft.peft_type}`);
}
