/** The head of a task, which trains whole whatever the method does beside it. */
import { UserError } from '../base/errors.js';
import { isSavedModule, type PeftConfig } from '../formats/peftConfig.js';
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
  return { task: config.task, modules: [...new Set(modules)] };
}

/** PEFT's configuration of an adapter with the head's modules among those that it saves. */
export function withHead(config: PeftConfig, head: AdapterHead | undefined): PeftConfig {
  if (!head) return config;
  const saved = 'modules_to_save' in config ? (config.modules_to_save ?? []) : [];
  return {
    ...config,
    task_type: peftTaskType(head.task),
    modules_to_save: [...new Set([...saved, ...head.modules])],
  } as PeftConfig;
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
