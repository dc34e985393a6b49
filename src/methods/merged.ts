/** A model with an adapter in its own tensors. */
import { UserError } from '../base/errors.js';
import type { F32Tensor } from '../base/tensor.js';
import { constant } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type BaseModel, frozenWeight } from '../models/base.js';
import type { Site, Sites } from '../models/model.js';
import { BaseSites } from '../models/shape.js';
import { type Adapter, targetSites } from './adapter.js';
import { resized } from './carried.js';
import type { MergeContext, Trainable } from './method.js';
import { isShared, moduleOf, replacedRows, rowsOf } from './modelTensors.js';

/** Makes a trainable tensor's values part of a graph. */
type Leaf = (value: F32Tensor, name: string) => Tensor;

/** What merging does to a tensor. */
export interface Change {
  /** The base's tensor that it starts from. */
  from: string;
  /** Of what it becomes. */
  shape: readonly number[];
  apply(weight: Tensor, leaf: Leaf): Tensor;
}

/**
 * The sites of a model with an adapter merged into its matrices. The sums are made of constants, so the engine
 * computes them once, while it loads, and a step costs what the base's costs (section 4.1 of the paper).
 */
export function mergedSites(model: BaseModel, adapter: Adapter): Sites {
  const changes = mergedWeights(model, adapter);
  return new BaseSites((name, _, own = name) => {
    const change = changes.get(own) ?? changes.get(name);
    const frozen = frozenWeight(model, change?.from ?? name);
    return change?.apply(frozen, (value) => constant(value)) ?? frozen;
  });
}

/**
 * What merging does, by the name of each tensor of the merged model that is not the base's own. One that the base has
 * not is the head's, which parts from the embedding that it was tied to: then the merged model is not tied. Throws
 * UserError where the method cannot merge.
 */
export function mergedWeights(model: BaseModel, adapter: Adapter): Map<string, Change> {
  const { method, config, trainables, values } = adapter;
  const { sites, parameters } = resized(model, adapter.vocabSize);
  const change = (from: string, apply: Change['apply']): Change => ({
    from,
    shape: parameters.get(from)!,
    apply,
  });
  const whole = trainables.filter(({ init, replaces }) => init === null && !replaces?.rows);
  const changes = new Map(
    whole.map(({ name, replaces }) => {
      const value = values.get(name)!;
      return [name, change(replaces?.tensor ?? name, (_, leaf) => leaf(value, name))];
    }),
  );
  const shared = new Set(whole.filter(isShared).map(({ name }) => name));
  /** What stands in the place of a module's own matrix before its method changes it. */
  const baseOf = ({ name, tiedTo }: Pick<Site, 'name' | 'tiedTo'>): Change => {
    const tied = `${tiedTo}.weight`;
    const own = whole.some((t) => t.name === `${name}.weight`) ? `${name}.weight` : tied;
    const found = own === tied && !shared.has(tied) ? undefined : start.get(own);
    return found ?? change(`${tiedTo ?? name}.weight`, (weight) => weight);
  };
  const start = new Map(changes);
  for (const site of sites) {
    const rows = rowsOf(trainables, site.name);
    if (!rows) continue;
    const base = baseOf(site);
    changes.set(
      `${site.name}.weight`,
      change(base.from, (weight, leaf) =>
        replacedRows(base.apply(weight, leaf), leaf(values.get(rows.name)!, rows.name), rows.rows),
      ),
    );
  }
  const targets = targetSites(adapter, model);
  if (trainables.some(({ init }) => init !== null) && !method.merge) {
    throw new UserError(
      `what method ${method.name} trains is in no matrix of the model, so it cannot be merged: generate and eval take it ` +
        'as it is; of what merges, lora is nearest',
    );
  }
  const mergeBias = method.mergeBias?.(config);
  for (const [name, site] of targets) {
    const context = (leaf: Leaf): MergeContext => ({
      site,
      param: (part) => leaf(values.get(`${name}.${part}`)!, part),
      shared: (tensor) => leaf(values.get(tensor)!, tensor),
    });
    const base = baseOf(site);
    changes.set(
      `${name}.weight`,
      change(base.from, (weight, leaf) => method.merge!(config, context(leaf), base.apply(weight, leaf))),
    );
    if (!mergeBias || site.kind === 'embedding') continue;
    if (!site.bias) {
      throw new UserError(
        `${name} has no bias in this model, so the adapter's lora_bias has no place in it: leave it unmerged`,
      );
    }
    const own = changes.get(`${name}.bias`);
    changes.set(
      `${name}.bias`,
      change(`${name}.bias`, (bias, leaf) => mergeBias(context(leaf), own?.apply(bias, leaf) ?? bias)),
    );
  }
  for (const head of sites.filter((site) => isParted(site, trainables))) {
    if (!changes.has(`${head.name}.weight`)) changes.set(`${head.name}.weight`, baseOf(head));
  }
  return changes;
}

/** Whether a tied head has another matrix than its embedding, which changes without it. */
function isParted({ tiedTo }: Site, trainables: readonly Trainable[]): boolean {
  if (tiedTo === undefined) return false;
  return trainables.some(({ name, init, replaces }) => {
    if (moduleOf(name) !== tiedTo) return false;
    return init !== null || (replaces !== undefined && replaces.rows === undefined);
  });
}
