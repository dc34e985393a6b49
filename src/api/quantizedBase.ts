/** Quantized copies of models, each made once and kept in the cache. */
import { createHash } from 'node:crypto';
import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import type { WorkProgress } from '../base/work.js';
import { contentOf } from '../formats/io/staging.js';
import { makeOnce } from '../formats/io/write.js';
import { type QuantFormat, quantFormats } from '../formats/quant/index.js';
import {
  type BaseAlternation,
  type BaseRecipe,
  describeRecipe,
  readRecipe,
  sameRecipe,
} from '../formats/quant/recipe.js';
import type { TensorEntry } from '../formats/safetensors.js';
import { type BaseModel, type OpenOptions, openModel } from '../models/base.js';
import { ggufEntries, ggufToHf } from '../models/gguf/file.js';
import { parseModelConfig } from '../models/index.js';
import { formatOf } from '../models/quantized.js';
import {
  floatEntries,
  floatsOf,
  noteRecipe,
  type QuantizeOptions,
  quantizedEntries,
  quantizeFolder,
} from '../models/quantizing.js';
import { cacheFolder, type LocateOptions, locate, resolveModelFolder } from './locate.js';

/** Part of every key: another layout of the same weights must not find the old one. */
const LAYOUT = 2;
const PROGRESS_SECONDS = 5;

/** How the layers of a base may lie: an option of everything that loads a model. */
export const quantizeOption = z
  .enum(quantFormats as [QuantFormat, ...QuantFormat[]])
  .optional()
  .describe('quantize the linear layers of the base, once: nf4 to train (QLoRA), int4 or int8 to serve');

export interface BaseOptions extends LocateOptions {
  /** Quantizes the linear layers of the model, once into the cache. */
  quantize?: QuantFormat;
}

/** A model folder, and where it lies what its layers were quantized from: a folder or a GGUF file. */
export interface ResolvedBase {
  folder: string;
  original?: string;
}

/** As resolveModelFolder, and with `quantize` the folder of the quantized copy, by LoftQ's recipe where one is given. */
export async function resolveBase(
  path: string,
  { quantize: format, ...options }: BaseOptions = {},
  loftq?: BaseAlternation,
): Promise<ResolvedBase> {
  if (format === undefined) return { folder: await resolveModelFolder(path, options) };
  const original = await locate(path, { kind: 'model', ...options });
  const folder = await quantizedFolder(original, { format, ...(loftq && { loftq }) }, options);
  return folder === original ? { folder } : { folder, original };
}

/** Opens a base that was resolved, with a reader of its original. Throws UserError as openModel does. */
export async function openBase(
  { folder, original }: ResolvedBase,
  options: OpenOptions = {},
): Promise<BaseModel> {
  const base = await openModel(await realpath(folder), options);
  return original === undefined ? base : { ...base, original: readerOf(original) };
}

/** Reads a model's tensors by name; it is opened when it is first asked. */
function readerOf(at: string): (name: string) => Promise<Float32Array> {
  let opened: Promise<TensorEntry[]> | undefined;
  return async (name) => {
    opened ??= entriesOf(at);
    return floatsOf((await opened).find((entry) => entry.name === name)!);
  };
}

async function entriesOf(at: string): Promise<TensorEntry[]> {
  return (await stat(at)).isDirectory() ? floatEntries(await openModel(await realpath(at))) : ggufEntries(at);
}

/** How an opened base was quantized; undefined where it was not. */
export async function recipeOf(base: BaseModel): Promise<BaseRecipe | undefined> {
  const format = formatOf(base);
  return format && ((await readRecipe(base.folder)) ?? { format });
}

/**
 * What to tell of an adapter that was trained over other weights than the model has: it was fitted to those, their
 * rounding included.
 */
export function otherBase(
  adapter: string,
  trained: BaseRecipe | undefined,
  held: BaseRecipe | undefined,
): string | undefined {
  if (!trained || sameRecipe(trained, held)) return undefined;
  const [over, these] = [describeRecipe(trained), held ? describeRecipe(held) : 'not'];
  const needed =
    trained.format === held?.format && trained.loftq
      ? 'load it into a model without other adapters, opened by its original and this base'
      : `the option quantize ${trained.format} gives the ones it fits`;
  return `${adapter} was trained over ${over} weights and these are ${these}: ${needed}`;
}

/**
 * The folder of a model (a Hugging Face folder or a GGUF file on this disk) with its linear layers as `recipe` says: from
 * the cache, or quantized into it now. Throws UserError where the model holds another format already.
 */
export async function quantizedFolder(
  at: string,
  recipe: BaseRecipe,
  {
    onNotice,
    onProgress = onNotice && inNotices(onNotice),
    signal,
  }: Pick<LocateOptions, 'onNotice'> & QuantizeOptions = {},
): Promise<string> {
  const isFolder = (await stat(at)).isDirectory();
  if (isFolder) {
    const held = formatOf(await openModel(await realpath(at)));
    if (held === recipe.format) return at;
    if (held) throw new UserError(`${at} holds its layers in ${held} already; leave --quantize out`);
  }
  const kind = recipe.loftq ? `${recipe.format}-loftq` : recipe.format;
  const folder = join(cacheFolder(), `${kind}-${await keyOf(at, isFolder, recipe)}`);
  const make = async () => {
    onNotice?.(`quantizing ${at} to ${describeRecipe(recipe)} once into ${folder}`);
    await quantize(at, isFolder, folder, recipe, { onProgress, signal });
  };
  const onWait = () => onNotice?.(`another process is quantizing ${at}: waiting for it`);
  await makeOnce(folder, make, { onWait, signal });
  return folder;
}

/** Progress as a notice every few seconds. */
function inNotices(onNotice: (message: string) => void): (progress: WorkProgress) => void {
  let told = performance.now();
  return ({ done, total }) => {
    const now = performance.now();
    if (now - told < PROGRESS_SECONDS * 1000) return;
    told = now;
    onNotice(`quantized ${Math.floor((100 * done) / total)}%`);
  };
}

async function quantize(
  at: string,
  isFolder: boolean,
  folder: string,
  recipe: BaseRecipe,
  options: QuantizeOptions,
): Promise<void> {
  if (isFolder) return quantizeFolder(await openModel(await realpath(at)), folder, recipe, options);
  await ggufToHf(at, folder, {
    dtype: 'float32',
    store: (entries, config) => quantizedEntries(entries, parseModelConfig(at, config), recipe, options),
    beside: (temporary) => noteRecipe(temporary, recipe),
  });
}

/** What changes when the model does: names, sizes and times of its files, links followed; and LoftQ's part of a recipe. */
async function keyOf(at: string, isFolder: boolean, { loftq }: BaseRecipe): Promise<string> {
  const entries = isFolder ? await readdir(at, { withFileTypes: true }) : [];
  // Folders in it, and what is under way, are no part of the model.
  const names = contentOf(entries.flatMap((entry) => (entry.isDirectory() ? [] : [entry.name])));
  const files = isFolder ? names.sort().map((file) => join(at, file)) : [at];
  const hash = createHash('sha256').update(`layout ${LAYOUT}`);
  for (const file of files) {
    const { size, mtimeMs } = await stat(file);
    hash.update(`\n${await realpath(file)} ${size} ${mtimeMs}`);
  }
  if (loftq) hash.update(`\n${JSON.stringify([loftq.iterations, Object.entries(loftq.ranks).sort()])}`);
  return hash.digest('hex').slice(0, 16);
}
