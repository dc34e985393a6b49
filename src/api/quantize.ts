/** Quantized copies of models, each made once and kept in the cache. */
import { createHash } from 'node:crypto';
import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { ggufToHf } from '../formats/gguf/tohf.js';
import { exists, readJson } from '../formats/io/node.js';
import { type QuantFormat, quantFormats } from '../formats/quant/index.js';
import { openModel } from '../models/base.js';
import { parseModelConfig } from '../models/index.js';
import { quantizedEntries, quantizeFolder } from '../models/quantize.js';
import { formatOf } from '../models/quantized.js';
import { cacheFolder, type LocateOptions, locate, resolveModelFolder } from './locate.js';

/** Part of every key: another layout of the same weights must not find the old one. */
const LAYOUT = 1;
const PROGRESS_SECONDS = 5;

/** How the layers of a base may lie: an option of everything that loads a model. */
export const baseOption = z
  .enum(quantFormats as [QuantFormat, ...QuantFormat[]])
  .optional()
  .describe('quantize the linear layers of the base, once: nf4 to train (QLoRA), int4 or int8 to serve');

export interface BaseOptions extends LocateOptions {
  /** Quantizes the linear layers of the model, once into the cache. */
  base?: QuantFormat;
}

/** As resolveModelFolder, and with `base` the folder of the quantized copy. */
export async function resolveBase(path: string, { base, ...options }: BaseOptions = {}): Promise<string> {
  if (base === undefined) return resolveModelFolder(path, options);
  return quantizedFolder(await locate(path, { kind: 'model', ...options }), base, options.onNotice);
}

const runSchema = z.looseObject({ options: z.looseObject({ base: z.unknown().optional() }).optional() });

/**
 * What to tell of an adapter that was trained over another format than the model has: it was fitted to those weights,
 * their rounding included. Only a run's own folder knows (run.json).
 */
export async function otherBase(
  adapterFolder: string,
  held: QuantFormat | undefined,
): Promise<string | undefined> {
  const place = join(adapterFolder, 'run.json');
  if (!(await exists(place))) return undefined;
  const trained = (await readJson(place, runSchema)).options?.base;
  if (typeof trained !== 'string' || trained === held) return undefined;
  return `${adapterFolder} was trained over ${trained} weights and these are ${held ?? 'not'}: the option base ${trained} gives the ones it fits`;
}

/**
 * The folder of a model (a Hugging Face folder or a GGUF file on this disk) with its linear layers in `format`: from
 * the cache, or quantized into it now. Throws UserError where the model holds another format already.
 */
export async function quantizedFolder(
  at: string,
  format: QuantFormat,
  onNotice: (message: string) => void = () => {},
): Promise<string> {
  const isFolder = (await stat(at)).isDirectory();
  if (isFolder) {
    const held = formatOf(await openModel(await realpath(at)));
    if (held === format) return at;
    if (held) throw new UserError(`${at} holds its layers in ${held} already; leave --base out`);
  }
  const folder = join(cacheFolder(), `${format}-${await keyOf(at, isFolder)}`);
  if (await exists(folder)) return folder;
  onNotice(`quantizing ${at} to ${format} once into ${folder}`);
  try {
    await quantize(at, isFolder, folder, format, onNotice);
  } catch (error) {
    // Another process may have been quicker.
    if (!(await exists(folder))) throw error;
  }
  return folder;
}

async function quantize(
  at: string,
  isFolder: boolean,
  folder: string,
  format: QuantFormat,
  onNotice: (message: string) => void,
): Promise<void> {
  const started = performance.now();
  let told = started;
  const onProgress = (share: number) => {
    const now = performance.now();
    if (now - told < PROGRESS_SECONDS * 1000) return;
    told = now;
    onNotice(`quantized ${Math.floor(share * 100)}%`);
  };
  if (isFolder) return quantizeFolder(await openModel(await realpath(at)), folder, format, { onProgress });
  await ggufToHf(at, folder, {
    dtype: 'float32',
    store: (entries, config) =>
      quantizedEntries(entries, parseModelConfig(at, config), format, { onProgress }),
  });
}

/** What changes when the model does: names, sizes and times of its files, links followed. */
async function keyOf(at: string, isFolder: boolean): Promise<string> {
  const files = isFolder ? (await readdir(at)).sort().map((file) => join(at, file)) : [at];
  const hash = createHash('sha256').update(`layout ${LAYOUT}`);
  for (const file of files) {
    const { size, mtimeMs } = await stat(file);
    hash.update(`\n${await realpath(file)} ${size} ${mtimeMs}`);
  }
  return hash.digest('hex').slice(0, 16);
}
