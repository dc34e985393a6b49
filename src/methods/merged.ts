/** A model with an adapter in its own tensors. */
import { UserError } from '../base/errors.js';
import type { F32Tensor } from '../base/tensor.js';
import { constant } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type BaseModel, BaseSites, frozenWeight } from '../models/base.js';
import type { Site, Sites } from '../models/model.js';
import { type Adapter, targetSites } from './adapter.js';
import type { MergeContext } from './method.js';
import { replacedRows } from './own.js';

/** Makes a trainable tensor's values part of a graph. */
type Leaf = (value: F32Tensor, name: string) => Tensor;

/** What merging does to a tensor. */
export interface Change {
  /** The base's tensor that it starts from. */
  from: string;
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
  const changes = new Map<string, Change>();
  for (const { name, init, replaces } of trainables) {
    if (init !== null) continue;
    const value = values.get(name)!;
    const rows = replaces?.rows;
    const from = replaces?.tensor ?? name;
    changes.set(rows ? from : name, {
      from,
      apply: (weight, leaf) => (rows ? replacedRows(weight, leaf(value, name), rows) : leaf(value, name)),
    });
  }
  const targets = targetSites(adapter, model);
  if (changes.size < trainables.length && !method.merge) {
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
    changes.set(`${name}.weight`, {
      from: `${site.tiedTo ?? name}.weight`,
      apply: (weight, leaf) => method.merge!(config, context(leaf), weight),
    });
    if (!mergeBias || site.kind === 'embedding') continue;
    if (!site.bias) {
      throw new UserError(
        `${name} has no bias in this model, so the adapter's lora_bias has no place in it: leave it unmerged`,
      );
    }
    const own = changes.get(`${name}.bias`);
    changes.set(`${name}.bias`, {
      from: `${name}.bias`,
      apply: (bias, leaf) => mergeBias(context(leaf), own?.apply(bias, leaf) ?? bias),
    });
  }
  for (const [head, embedding] of parted(model.sites, adapter)) {
    if (!changes.has(head)) changes.set(head, { from: embedding, apply: (weight) => weight });
  }
  return changes;
}

/** Tied heads, by the names of their tensors, whose embedding changes without them. */
function parted(sites: readonly Site[], { trainables }: Adapter): [head: string, embedding: string][] {
  return sites.flatMap(({ name, tiedTo }): [string, string][] => {
    const alone = trainables.some(
      (t) =>
        (t.name === `${tiedTo}.weight` && t.replaces !== undefined) ||
        (t.init !== null && t.name.startsWith(`${tiedTo}.`)),
    );
    return tiedTo !== undefined && alone ? [[`${name}.weight`, `${tiedTo}.weight`]] : [];
  });
}
