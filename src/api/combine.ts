import { stat } from 'node:fs/promises';
import { UserError } from '../base/errors.js';
import { writeFolderAtomic } from '../formats/io/node.js';
import { writeAdapter } from '../formats/peft.js';
import { type CombineInput, combineAdapters, type Part, parseCombineOptions } from '../methods/combine.js';
import { readAdapterFolder } from './adapterFile.js';
import { type LocateOptions, locate } from './locate.js';
import { refuseForeign, refuseInput } from './replace.js';

export interface CombineFilesOptions extends LocateOptions {
  /** One an adapter; default: 1 each. */
  weights?: readonly number[];
  /** Replace an adapter that is at the output. */
  overwrite?: boolean;
}

/** What was written. */
export interface Combined {
  /** Rank of the result. */
  r: number;
  /** Modules that it changes. */
  modules: number;
  /** The base that it names. */
  base: string | null;
}

/**
 * Combines adapters (PEFT or mlx-lm folders, or hub ids) into one PEFT folder, without their base. Throws UserError where
 * one is more than LoRA, where they do not fit each other, or where `output` exists.
 */
export async function combineIntoFolder(
  paths: readonly string[],
  output: string,
  { weights, overwrite, onNotice, onDownload, ...given }: CombineFilesOptions & CombineInput = {},
): Promise<Combined> {
  const options = parseCombineOptions('combination options', given);
  if (weights && weights.length !== paths.length) {
    throw new UserError(`there are ${paths.length} adapters and ${weights.length} weights`);
  }
  await refuseForeign(output, 'peft', overwrite);
  const parts: Part[] = [];
  for (const [i, path] of paths.entries()) {
    const at = await locate(path, { kind: 'adapter', onNotice, onDownload });
    if (!(await stat(at)).isDirectory()) {
      throw new UserError(`${path} is no folder: make a GGUF adapter one first, by convert --to peft`);
    }
    await refuseInput(output, at);
    parts.push({ name: path, adapter: await readAdapterFolder(at), weight: weights?.[i] ?? 1 });
  }
  const { config, tensors } = combineAdapters(parts, options);
  const other = parts.find((part) => part.adapter.config.base_model_name_or_path !== baseOf(parts[0]));
  if (other) onNotice?.(`${parts[0].name} is for ${baseOf(parts[0])} and ${other.name} for ${baseOf(other)}`);
  await writeFolderAtomic(output, (temporary) => writeAdapter(temporary, config, tensors), { overwrite });
  return { r: config.r, modules: tensors.size / 2, base: config.base_model_name_or_path };
}

function baseOf({ adapter }: Part): string | null {
  return adapter.config.base_model_name_or_path;
}
