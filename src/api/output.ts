/** Jobs that write a model. */
import { stat } from 'node:fs/promises';
import type { ExportedModel, OnnxOptions } from '../methods/exportOnnx.js';
import { checkArguments } from './arguments.js';
import { loadModel } from './loadModel.js';
import { type LocateOptions, locate } from './locate.js';
import { dtypeOfGguf, formatOfOutput, type SavedModel, type SaveMergedOptions } from './merged.js';
import type { BaseOptions } from './quantizedBase.js';
import { claimOutput, refuseInput } from './replace.js';

/**
 * Writes `model` with adapters merged in, as a folder or a GGUF file, and tells of which element type it is where it was a
 * GGUF file. Throws UserError where they do not belong together, or `output` exists; with `overwrite`, only where it is
 * no model or the base itself.
 */
export async function mergeInto(
  model: string,
  adapters: readonly string[],
  output: string,
  { quantize, onNotice, onDownload, ...options }: SaveMergedOptions & BaseOptions = {},
): Promise<SavedModel> {
  const format = options.format ?? formatOfOutput(output);
  await claimOutput(output, format, { overwrite: options.overwrite, inputs: [model, ...adapters] });
  const at = await locate(model, { kind: 'model', onNotice, onDownload });
  await refuseInput(output, at);
  let { dtype } = options;
  if (dtype === undefined && (await stat(at)).isFile()) {
    const chosen = await dtypeOfGguf(at, format);
    dtype = chosen.dtype;
    onNotice?.(
      `${model} holds its weights mostly in ${chosen.held}: the merged ones are ${dtype}, unless you choose`,
    );
  }
  const loaded = await loadModel(model, { quantize, onNotice, onDownload });
  try {
    await refuseInput(output, loaded.base.folder);
    await loaded.loadAdapters(adapters, { onNotice, onDownload });
    return await loaded.saveMerged(output, { ...options, format, dtype, onNotice });
  } finally {
    await loaded.close();
  }
}

/**
 * Writes `model` with adapters merged in as a folder that transformers.js loads. Throws UserError where they do not belong
 * together, transformers.js does not know the type of model, or `output` exists; with `overwrite`, only where that is no
 * exported model or an input.
 */
export async function exportOnnx(
  model: string,
  adapters: readonly string[],
  output: string,
  { onNotice, onDownload, ...options }: OnnxOptions & LocateOptions = {},
): Promise<ExportedModel> {
  checkArguments('exportOnnx', [model, adapters, output]);
  await claimOutput(output, 'onnx', { overwrite: options.overwrite, inputs: [model, ...adapters] });
  const at = await locate(model, { kind: 'model', onNotice, onDownload });
  await refuseInput(output, at);
  const loaded = await loadModel(model, { onNotice, onDownload });
  try {
    await refuseInput(output, loaded.base.folder);
    await loaded.loadAdapters(adapters, { onNotice, onDownload });
    return await loaded.exportOnnx(output, options);
  } finally {
    await loaded.close();
  }
}
