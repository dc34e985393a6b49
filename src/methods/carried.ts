/**
 * Matrices of the base that an adapter brings along: PEFT saves the embedding and the head with an adapter that has them
 * among its targets, or whose vocabulary was resized, and puts them in the base's place when it loads it.
 */
import { UserError } from '../base/errors.js';
import type { AdapterTensor } from '../formats/peft.js';
import { splitModuleKey } from '../formats/peftNames.js';
import type { BaseModel } from '../models/base.js';
import type { Site } from '../models/model.js';
import { describe } from '../models/shape.js';
import type { Trainable } from './method.js';
import { moduleOf } from './modelTensors.js';

type Tensors = ReadonlyMap<string, AdapterTensor>;
/** What a model is by its shape. */
export type Shapes = Pick<BaseModel, 'config' | 'sites' | 'parameters' | 'trained' | 'cache'>;

/** A model as an adapter has it that was trained with another vocabulary: with other sizes of embedding and head. */
export function resized<M extends Shapes>(model: M, vocabSize: number | undefined): M {
  if (vocabSize === undefined) return model;
  const config = { ...model.config, vocabSize };
  return { ...model, ...describe(config), trained: model.trained };
}

/**
 * How many tokens an adapter's own matrices of the vocabulary have, where that is another number than the base's. Throws
 * UserError where they do not all have as many. `made` begins the sentence.
 */
export function vocabularyOf(made: string, tensors: Tensors, { config, sites }: Shapes): number | undefined {
  const matrices = sites.filter(({ role }) => role === 'embedding' || role === 'head');
  const sizes = matrices.map((site) => {
    const { name } = site;
    const matrix =
      tensors.get(`${name}.weight`) ??
      pairOf(site, sites)
        .map((module) => carriedBy(tensors, module))
        .find(Boolean);
    return { name, size: matrix?.shape[0] ?? config.vocabSize };
  });
  const vocabSize = sizes.find(({ size }) => size !== config.vocabSize)?.size;
  const other = vocabSize !== undefined && sizes.find(({ size }) => size !== vocabSize);
  if (other) {
    throw new UserError(
      `${made}: its vocabulary has ${vocabSize} tokens, and its ${other.name} is for ${other.size}; save the adapter with ` +
        "PEFT's save_embedding_layers=True",
    );
  }
  return vocabSize;
}

/** A matrix that an adapter brings along for a module. */
function carriedBy(tensors: Tensors, module: string): AdapterTensor | undefined {
  return tensors.get(`${module}.base_weight`);
}

/** A site and those that have one matrix with it, the one that it is named after first. */
function pairOf({ name, tiedTo }: Site, sites: readonly Site[]): string[] {
  const owner = tiedTo ?? name;
  return [owner, ...sites.filter((site) => site.tiedTo === owner).map((site) => site.name)];
}

/**
 * An adapter's tensors without the matrices that are the base's own but for rounding. Throws UserError for one of a
 * module that the model has not, and for two of a tied pair that differ. `made` begins the sentence.
 */
export async function withoutBaseMatrices(
  made: string,
  tensors: Tensors,
  { sites, checkpoint }: Pick<BaseModel, 'sites' | 'checkpoint'>,
): Promise<Map<string, AdapterTensor>> {
  const left = new Map(tensors);
  for (const site of sites) {
    const matrix = carriedBy(tensors, site.name);
    if (!matrix) continue;
    const [owner, ...tied] = pairOf(site, sites);
    const other = tied.map((module) => carriedBy(tensors, module)).find(Boolean);
    if (site.name === owner && other && !haveEqualValues(matrix, other)) {
      throw new UserError(
        `${made}: it has two matrices for ${owner} and ${tied}, which are one in this model`,
      );
    }
    if (!differs(matrix.data, await checkpoint.read(`${owner}.weight`)))
      left.delete(`${site.name}.base_weight`);
  }
  return left;
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

/** Whether two tensors are the same, bit for bit. */
export function haveEqualValues(a: AdapterTensor, b: AdapterTensor): boolean {
  return String(a.shape) === String(b.shape) && a.data.every((value, i) => value === b.data[i]);
}

/**
 * The matrices that an adapter brings along, as tensors of its own that do not train, with their values. What has a copy
 * of its own beside them does not need them. Throws UserError for a module that the model has not.
 */
export function carriedTensors(
  made: string,
  tensors: Tensors,
  { sites }: Pick<BaseModel, 'sites'>,
): [Trainable, AdapterTensor][] {
  const carried = new Map<string, [Trainable, AdapterTensor]>();
  for (const [key, matrix] of tensors) {
    const found = splitModuleKey(key);
    if (found?.part !== 'base_weight') continue;
    const site = sites.find(({ name }) => name === found.module);
    if (!site) throw new UserError(`${made}: the model has no layer ${found.module}`);
    const users = pairOf(site, sites);
    const [first, ...others] = users.filter((module) => !tensors.has(`${module}.weight`));
    if (first === undefined) continue;
    const name = `${first}.weight`;
    // Of a tied pair, one that is left alone with the matrix.
    const alone = users.length > 1 && others.length === 0;
    const replaces = { tensor: `${users[0]}.weight` };
    carried.set(name, [
      { name, shape: matrix.shape, init: null, requiresGrad: false, ...(alone && { replaces }) },
      matrix,
    ]);
  }
  return [...carried.values()];
}

/** Whether a tensor of an adapter is a matrix of the base's that it brings along. */
export function isCarried({ init, requiresGrad }: Trainable): boolean {
  return init === null && requiresGrad === false;
}

/** The key that a tensor has in an adapter's file. */
export function fileKeyOf(trainable: Trainable): string {
  return isCarried(trainable) ? `${moduleOf(trainable.name)}.base_weight` : trainable.name;
}
