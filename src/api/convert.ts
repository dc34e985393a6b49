/** Conversion between the files that people have: models into Hugging Face folders, adapters between PEFT, GGUF and mlx-lm. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import type { StoredDType } from '../base/tensor.js';
import type { WorkOptions } from '../base/work.js';
import {
  checkFits,
  isAdapterGguf,
  type LoraBase,
  readLoraGguf,
  writeLoraGguf,
} from '../formats/gguf/lora.js';
import { readGguf } from '../formats/gguf/reader.js';
import type { GgufDType } from '../formats/gguf/types.js';
import { exists } from '../formats/io/node.js';
import { writeFolderAtomic } from '../formats/io/write.js';
import { isMlxAdapter, readMlxAdapter } from '../formats/mlx.js';
import { type AdapterFiles, readAdapter, writeAdapter } from '../formats/peft.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import type { ToLoraOptions } from '../methods/toLora.js';
import { withinTargets } from '../methods/withinTargets.js';
import { openModel } from '../models/base.js';
import { ggufToHf } from '../models/gguf/file.js';
import { missingBase, openLoraBase } from './adapterFile.js';
import { checkArguments } from './arguments.js';
import { type LocateOptions, locate } from './locate.js';
import { type MergedFormat, type SavedModel, writeMerged } from './merged.js';
import { type ConversionTarget, claimOutput, type OutputKind, refuseInput } from './replace.js';
import { type AsLora, writeAsLora } from './toLora.js';

export interface ConvertOptions extends LocateOptions, WorkOptions, ToLoraOptions {
  /** Default: a model becomes hf, a PEFT adapter gguf, any other adapter peft. r and energy are for lora. */
  to?: ConversionTarget;
  /** Model that an adapter is for: a folder, a GGUF file, a hub id or "demo". Default: the one that a PEFT or mlx-lm adapter names. */
  base?: string;
  /**
   * Element type of what is written. Default: in a folder a model's tensors keep their own (float32 for what is quantized), in a
   * GGUF file 16 bits; adapters have float32.
   */
  dtype?: GgufDType;
  /** Weights of a model above this many bytes are split over several files. */
  maxShardBytes?: number;
  /** Replace a model, adapter or GGUF file that is at the output. */
  overwrite?: boolean;
}

/** What was written. */
export interface Converted {
  what: 'model' | 'adapter';
  format: ConversionTarget;
  /** The element type asked for, or chosen; absent where each tensor kept its own. */
  dtype?: GgufDType;
  /** Of `to: 'lora'`: what the LoRA holds of the change. */
  lora?: AsLora;
}

type Source = 'gguf-model' | 'gguf-adapter' | 'hf' | 'peft' | 'mlx';

const NAMES: Record<Source, string> = {
  'gguf-model': 'a model in GGUF',
  'gguf-adapter': 'a LoRA adapter in GGUF',
  hf: 'a model folder',
  peft: 'a PEFT adapter',
  mlx: 'an mlx-lm adapter',
};

const TARGETS: Record<Source, readonly ConversionTarget[]> = {
  'gguf-model': ['hf'],
  hf: ['hf', 'gguf'],
  peft: ['gguf', 'lora'],
  mlx: ['peft', 'gguf', 'lora'],
  'gguf-adapter': ['peft'],
};

/**
 * Converts what is at `path` (or what a hub id names) into `output`: a folder, or for `to: 'gguf'` a file.
 * @throws UserError naming the file where it is broken or for another base, where it cannot become what was asked, or
 * where `output` exists; with `overwrite`, only where that is something else than what is written or an input.
 */
export async function convert(
  path: string,
  output: string,
  options: ConvertOptions = {},
): Promise<Converted> {
  checkArguments('convert', [path, output, options]);
  const at = await locate(path, options);
  const source = await sourceOf(at);
  const format = options.to ?? TARGETS[source][0];
  for (const key of ['r', 'energy'] as const) {
    if (options[key] !== undefined && format !== 'lora')
      throw new UserError(`the option "${key}" is for conversions to lora`);
  }
  if (format === 'lora' && (source === 'hf' || source === 'gguf-model')) {
    throw new UserError(
      `${path} is a whole model: lowrank extract makes a LoRA of what it has and its base has not`,
    );
  }
  if (!TARGETS[source].includes(format)) {
    throw new UserError(
      `${path} is ${NAMES[source]}, which can become ${TARGETS[source].join(' or ')}, not ${format}`,
    );
  }
  await claimOutput(output, folderOf(format), { overwrite: options.overwrite, inputs: [at] });
  await refuseInput(output, at);
  if (source === 'hf') {
    const { dtype } = await copyModel(at, output, format === 'gguf' ? 'gguf' : 'hf', options);
    return { what: 'model', format, ...(dtype && { dtype }) };
  }
  const { dtype } = options;
  if (dtype === 'q8_0' || dtype === 'q4_0') {
    const what = source === 'gguf-model' ? 'a model folder' : 'an adapter';
    throw new UserError(`${dtype} is no element type of ${what}, expected float32, float16 or bfloat16`);
  }
  if (folderOf(format) === 'peft' && dtype !== undefined && dtype !== 'float32') {
    throw new UserError('a PEFT adapter is written in float32 only');
  }
  if (format === 'lora') {
    return { what: 'adapter', format, lora: await writeAsLora(path, at, output, options) };
  }
  if (source === 'gguf-model') await ggufToHf(at, output, { ...options, dtype });
  else await convertAdapter(at, source, output, format, { ...options, dtype });
  return { what: source === 'gguf-model' ? 'model' : 'adapter', format, ...(dtype && { dtype }) };
}

/** What is at the output of a conversion. */
function folderOf(format: ConversionTarget): OutputKind {
  return format === 'lora' ? 'peft' : format;
}

async function sourceOf(path: string): Promise<Source> {
  if (!(await stat(path)).isDirectory()) {
    return isAdapterGguf(await readGguf(path)) ? 'gguf-adapter' : 'gguf-model';
  }
  if (await isMlxAdapter(path)) return 'mlx';
  if (await exists(join(path, 'adapter_config.json'))) return 'peft';
  if (await exists(join(path, 'config.json'))) return 'hf';
  throw new UserError(`${path} is neither a model (config.json) nor an adapter (adapter_config.json)`);
}

/** Writes a model folder anew, with another dtype or other shards or as GGUF: merging nothing is copying. */
async function copyModel(
  path: string,
  output: string,
  format: MergedFormat,
  options: ConvertOptions,
): Promise<SavedModel> {
  const model = await openModel(path, options);
  return writeMerged(output, new NodeRuntime(), { base: model }, { ...options, format });
}

type StoredOptions = Omit<ConvertOptions, 'dtype'> & { dtype?: StoredDType };

async function convertAdapter(
  path: string,
  source: 'peft' | 'mlx' | 'gguf-adapter',
  output: string,
  format: ConversionTarget,
  options: StoredOptions,
): Promise<void> {
  const { adapter, base, baseName } = await readFrom(path, source, options);
  if (base !== undefined) await refuseInput(output, base.place);
  if (format === 'gguf') {
    if (base === undefined) throw missingBase(path);
    await writeLoraGguf(output, path, adapter, base, options.dtype);
    return;
  }
  if (base !== undefined) checkFits(path, adapter, base);
  const config = { ...adapter.config, base_model_name_or_path: baseName };
  await writeFolderAtomic(output, (temporary) => writeAdapter(temporary, config, adapter.tensors), options);
}

interface Read {
  adapter: AdapterFiles;
  base: LoraBase | undefined;
  /** As the adapter or the caller names it. */
  baseName: string | null;
}

/** An adapter with its base: the one given, else the one that it names, if that is at hand. */
async function readFrom(
  path: string,
  source: 'peft' | 'mlx' | 'gguf-adapter',
  { base: given, ...options }: StoredOptions,
): Promise<Read> {
  const known = given === undefined ? undefined : await openLoraBase(given, options);
  if (source === 'gguf-adapter') {
    if (known === undefined) throw missingBase(path);
    return { adapter: await readLoraGguf(path, known), base: known, baseName: given! };
  }
  const adapter =
    source === 'peft'
      ? withinTargets(path, await readAdapter(path), options.onNotice)
      : await readMlxAdapter(path, known?.layers.keys());
  const named = adapter.config.base_model_name_or_path;
  if (known !== undefined) return { adapter, base: known, baseName: given! };
  const atHand = named !== null && (named === 'demo' || (await exists(named)));
  return { adapter, base: atHand ? await openLoraBase(named, options) : undefined, baseName: named };
}
