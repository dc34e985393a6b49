/** Jobs that write a model folder. */
import { readdir, realpath, stat } from 'node:fs/promises';
import { UserError } from '../base/errors.js';
import { type GgufToHfOptions, ggufToHf } from '../formats/gguf/tohf.js';
import { exists, refuseExisting } from '../formats/io/node.js';
import type { MergeOptions } from '../methods/merge.js';
import { resolveModelFolder } from './locate.js';
import { loadModel } from './model.js';

/**
 * Writes `model` with an adapter merged in. Throws UserError where they do not belong together, or `output` exists;
 * with `overwrite`, only where it is no model or the base itself.
 */
export async function mergeIntoFolder(
  model: string,
  adapter: string,
  output: string,
  { onNotice, ...options }: MergeOptions & { onNotice?: (message: string) => void } = {},
): Promise<void> {
  await refuseForeign(output, options.overwrite);
  const base = await resolveModelFolder(model, onNotice);
  if ((await exists(output)) && (await realpath(output)) === (await realpath(base))) {
    throw new UserError(`${output} is the base model itself and is not overwritten`);
  }
  const loaded = await loadModel(base);
  try {
    await loaded.loadAdapter(adapter);
    await loaded.saveMerged(output, options);
  } finally {
    await loaded.close();
  }
}

/** Converts a GGUF file, with the same care for what is there. */
export async function convertIntoFolder(
  file: string,
  output: string,
  options: GgufToHfOptions = {},
): Promise<void> {
  await refuseForeign(output, options.overwrite);
  await ggufToHf(file, output, options);
}

/** A model folder may be replaced when asked, anything else not: it was not written here. */
async function refuseForeign(output: string, overwrite = false): Promise<void> {
  if (!overwrite) return refuseExisting(output);
  if (!(await exists(output))) return;
  if (!(await stat(output)).isDirectory()) throw new UserError(`${output} is a file, not a folder`);
  const names = await readdir(output);
  if (names.length > 0 && !names.includes('config.json')) {
    throw new UserError(`${output} is no model folder and is not overwritten`);
  }
}
