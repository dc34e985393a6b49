/** The head of a task, which trains whole whatever the method does beside it. */
import { UserError } from '../base/errors.js';
import type { AdapterFiles } from '../formats/peft.js';
import { isSavedModule, type PeftConfig } from '../formats/peftConfig.js';
import { adapterSites } from '../formats/peftNames.js';
import { PEFT_HEADS, peftTaskType, type Task } from '../formats/task.js';
import type { BaseModel } from '../models/base.js';
import type { Outline } from '../models/shape.js';
import type { Method, Trainable } from './method.js';
import { moduleOf } from './modelTensors.js';

/** What an adapter has of a task. */
export interface AdapterHead {
  readonly task: Task;
  /** Its modules that train whole, as PEFT's modules_to_save names them. */
  readonly modules: readonly string[];
  /** What the model's names begin with and those in files do not: of embeddings PEFT adapts the model without a class. */
  readonly leaves: string;
}

/**
 * All that trains of a model: what a method selects, and the head. Throws UserError as `select`, and where the method is put
 * on a layer of the head.
 */
export function trainablesOf<C>(method: Method<C>, config: C, model: Outline): Trainable[] {
  const selected = method.select(config, model);
  const names = new Set(selected.map(({ name }) => name));
  const sites = new Set(selected.flatMap(({ at }) => at?.site ?? []));
  const twice = model.trained.find((name) => sites.has(moduleOf(name)));
  if (twice !== undefined) {
    throw new UserError(
      `target_modules names ${moduleOf(twice)}, a layer of the head, which trains whole: leave it out`,
    );
  }
  const head = model.trained.filter((name) => !names.has(name));
  return [
    ...selected,
    ...head.map((name): Trainable => ({ name, shape: model.parameters.get(name)!, init: null })),
  ];
}

/** Throws UserError where nothing trained a model's head: it tells nothing. */
export function refuseNewHead(
  { fresh }: Pick<BaseModel, 'fresh'>,
  adapter: { values: ReadonlyMap<string, unknown> } | undefined,
): void {
  const untrained = [...fresh].find((name) => !adapter?.values.has(name));
  if (untrained === undefined) return;
  throw new UserError(
    `the head is new (${untrained} is in no file): load an adapter that was trained for the task, or train one`,
  );
}

/** What an adapter for a model has of its task; undefined for a model without one. */
export function headOf({
  config,
  network,
  trained,
}: Pick<BaseModel, 'config' | 'network' | 'trained'>): AdapterHead | undefined {
  if (!config.task) return undefined;
  const { prefix } = network.names;
  const modules = trained.map((name) => {
    const own = name.startsWith(prefix) ? name.slice(prefix.length) : name;
    return own.split('.')[0];
  });
  const leaves = config.task.kind === 'embedding' ? prefix : '';
  return { task: config.task, modules: [...new Set(modules)], leaves };
}

/** PEFT's configuration of an adapter with the head's modules among those that it saves. */
export function withHead(config: PeftConfig, head: AdapterHead | undefined): PeftConfig {
  if (!head) return config;
  const saved = 'modules_to_save' in config ? (config.modules_to_save ?? []) : [];
  const modules = [...new Set([...saved, ...head.modules])];
  return {
    ...config,
    task_type: peftTaskType(head.task),
    ...(modules.length > 0 && { modules_to_save: modules }),
  } as PeftConfig;
}

/** Keys of PEFT's configuration that name modules: a name or an expression, a list of names, or values by name. */
const NAMING = [
  'target_modules',
  'exclude_modules',
  'modules_to_save',
  'rank_pattern',
  'alpha_pattern',
  'trainable_token_indices',
] as const;

/** Files without what the model's names begin with, as PEFT has them of a model without a class. */
export function withoutPrefix({ config, tensors }: AdapterFiles, prefix: string): AdapterFiles {
  if (prefix === '') return { config, tensors };
  const bare = (name: string) => (name.startsWith(prefix) ? name.slice(prefix.length) : name);
  const renamed = new Map([...tensors].map(([key, tensor]) => [bare(key), tensor]));
  const ofKey = (key: string, value: unknown): unknown => {
    // An expression was for whole names.
    if (typeof value === 'string') {
      return key === 'target_modules' && value !== 'all-linear' ? adapterSites(renamed) : value;
    }
    if (Array.isArray(value)) return value.map((one) => (typeof one === 'string' ? bare(one) : one));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [bare(name), one]));
  };
  const own = config as PeftConfig & Readonly<Record<string, unknown>>;
  const keys = NAMING.filter((key) => key in own);
  const named = Object.fromEntries(keys.map((key) => [key, ofKey(key, own[key])]));
  return { config: { ...own, ...named } as PeftConfig, tensors: renamed };
}

/** The same read for a model: PEFT names the heads of all models, and a model has one. */
export function withoutOtherHeads(
  config: PeftConfig,
  { parameters }: Pick<Outline, 'parameters'>,
): PeftConfig {
  if (!('modules_to_save' in config) || !config.modules_to_save) return config;
  const known = (module: string) =>
    !PEFT_HEADS.includes(module) ||
    [...parameters.keys()].some((name) => isSavedModule([module], moduleOf(name)));
  return { ...config, modules_to_save: config.modules_to_save.filter(known) };
}
