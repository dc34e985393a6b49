/** Jobs that write a model folder. */
import type { MergeOptions } from '../methods/merge.js';
import { loadModel } from './model.js';
import type { BaseOptions } from './quantize.js';
import { refuseForeign, refuseInput } from './replace.js';

/**
 * Writes `model` with adapters merged in. Throws UserError where they do not belong together, or `output` exists;
 * with `overwrite`, only where it is no model or the base itself.
 */
export async function mergeIntoFolder(
  model: string,
  adapters: readonly string[],
  output: string,
  { quantize, onNotice, onDownload, ...options }: MergeOptions & BaseOptions = {},
): Promise<void> {
  await refuseForeign(output, 'hf', options.overwrite);
  const loaded = await loadModel(model, { quantize, onNotice, onDownload });
  try {
    await refuseInput(output, loaded.base.folder);
    await loaded.loadAdapters(adapters, { onNotice, onDownload });
    await loaded.saveMerged(output, options);
  } finally {
    await loaded.close();
  }
}
