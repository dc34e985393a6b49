import { stat } from 'node:fs/promises';
import { UserError } from '../base/errors.js';
import { countedText } from '../base/text.js';
import { readLoraGguf } from '../formats/gguf/lora.js';
import { writeFolderAtomic } from '../formats/io/write.js';
import { type AdapterFiles, writeAdapter } from '../formats/peft.js';
import { adapterSites } from '../formats/peftNames.js';
import { type CombineInput, combineInTurns, type Part, parseCombineOptions } from '../methods/combine.js';
import { ownConfigOf } from '../methods/ownFolders.js';
import { withinTargets } from '../methods/withinTargets.js';
import { missingBase, openLoraBase, readAdapterFolder } from './adapterFile.js';
import { checkArguments } from './arguments.js';
import { baseName, type LocateOptions, locate } from './locate.js';
import { claimOutput, refuseInput } from './replace.js';

export interface CombineFilesOptions extends LocateOptions {
  /** One an adapter; default: 1 each. */
  weights?: readonly number[];
  /** The model of GGUF adapters among them, which do not name it. */
  base?: string;
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
 * Combines adapters (PEFT or mlx-lm folders, hub ids, GGUF files) into one PEFT folder, without the weights of their base. Throws UserError where
 * one is more than LoRA, where they do not fit each other, or where `output` exists.
 */
export async function combineIntoFolder(
  paths: readonly string[],
  output: string,
  { weights, base, overwrite, onNotice, onDownload, ...given }: CombineFilesOptions & CombineInput = {},
): Promise<Combined> {
  checkArguments('combineIntoFolder', [paths, output]);
  const options = parseCombineOptions('combination options', given);
  if (weights && weights.length !== paths.length) {
    throw new UserError(
      `there are ${countedText(paths.length, 'adapter')} and ${countedText(weights.length, 'weight')}`,
    );
  }
  await claimOutput(output, 'peft', { overwrite, inputs: paths });
  const parts: Part[] = [];
  for (const [i, path] of paths.entries()) {
    const at = await locate(path, { kind: 'adapter', onNotice, onDownload });
    await refuseInput(output, at);
    const adapter = await read(at, base, { onNotice, onDownload });
    parts.push({ name: path, adapter, weight: weights?.[i] ?? 1 });
  }
  const { config, tensors } = await combineInTurns(parts, options);
  const other = parts.find((part) => part.adapter.config.base_model_name_or_path !== baseOf(parts[0]));
  if (other) onNotice?.(`${parts[0].name} is for ${baseOf(parts[0])} and ${other.name} for ${baseOf(other)}`);
  await writeFolderAtomic(output, (temporary) => writeAdapter(temporary, config, tensors), { overwrite });
  return { r: config.r, modules: adapterSites(tensors).length, base: config.base_model_name_or_path };
}

async function read(at: string, base: string | undefined, options: LocateOptions): Promise<AdapterFiles> {
  const own = await ownConfigOf(at);
  if (own) throw new UserError(`${at} is a ${own.peft_type} adapter, and only plain LoRA can be combined`);
  if ((await stat(at)).isDirectory()) return withinTargets(at, await readAdapterFolder(at), options.onNotice);
  if (base === undefined) throw missingBase(at);
  const { config, tensors } = await readLoraGguf(at, await openLoraBase(base, options));
  return { config: { ...config, base_model_name_or_path: await baseName(base) }, tensors };
}

function baseOf({ adapter }: Part): string | null {
  return adapter.config.base_model_name_or_path;
}
