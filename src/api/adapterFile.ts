/** Adapters as people have them: PEFT folders, llama.cpp's GGUF files, mlx-lm folders. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { isAdapterGguf, type LoraBase, readLoraGguf } from '../formats/gguf/lora.js';
import { readGguf } from '../formats/gguf/reader.js';
import { exists, readJson } from '../formats/io/node.js';
import { isMlxAdapter, readMlxAdapter } from '../formats/mlx.js';
import { type AdapterFiles, readAdapter } from '../formats/peft.js';
import { loadTokenizer, type TokenizerOf } from '../formats/tokenizer.js';
import type { Adapter } from '../methods/adapter.js';
import { fromReadFiles } from '../methods/files.js';
import { loadOwnFolder, ownConfigOf } from '../methods/ownFolders.js';
import type { BaseModel } from '../models/base.js';
import { describeGguf } from '../models/gguf/file.js';
import { loraBaseOf } from '../models/gguf/lora.js';
import { ggufFormOf } from '../models/gguf/write.js';
import { parseModelConfig } from '../models/index.js';
import { type Described, describe } from '../models/shape.js';
import { type LocateOptions, locate } from './locate.js';
import { baseForAdapter } from './task.js';

/** Reads an adapter for a model, with the head that it needs; tells of what is left out of it. Throws UserError where it is broken or for another base. */
export async function readAdapterFor(
  path: string,
  given: BaseModel,
  { onNotice }: Pick<LocateOptions, 'onNotice'> = {},
): Promise<Adapter> {
  const model = await baseForAdapter(path, given);
  const own = await ownConfigOf(path);
  if (own) return loadOwnFolder(path, own, model);
  const adapter = await fromReadFiles(path, await filesFor(path, model), model, onNotice);
  const tokenizer = await tokenizerBeside(path, adapter, model, onNotice);
  return tokenizer ? { ...adapter, tokenizer } : adapter;
}

/** The tokenizer that came with an adapter. Tells of one that is needed and lacks, or has more tokens than there are rows. */
async function tokenizerBeside(
  folder: string,
  { vocabSize }: Adapter,
  model: BaseModel,
  onNotice?: (message: string) => void,
): Promise<TokenizerOf | undefined> {
  if (!(await exists(join(folder, 'tokenizer.json')))) {
    if (vocabSize !== undefined) {
      onNotice?.(
        `${folder} has a vocabulary of ${vocabSize} tokens, the model one of ${model.config.vocabSize}, and no tokenizer.json: ` +
          'no text becomes its new tokens until the files of its tokenizer are put there',
      );
    }
    return undefined;
  }
  const tokenizer = await loadTokenizer(folder, model.folder);
  const rows = vocabSize ?? model.config.vocabSize;
  if (tokenizer.vocabSize <= rows) return { tokenizer, folder, model: model.folder };
  onNotice?.(
    `${folder}: its tokenizer has ${tokenizer.vocabSize} tokens, and its embedding ${rows}: the model's own tokenizer is used`,
  );
  return undefined;
}

async function filesFor(path: string, model: BaseModel): Promise<AdapterFiles> {
  if (!(await stat(path)).isDirectory()) {
    return readLoraGguf(path, llamaCppBase(model.folder, model));
  }
  if (!(await isMlxAdapter(path))) return readAdapter(path, { started: true });
  return readMlxAdapter(
    path,
    model.sites.map(({ name }) => name),
  );
}

/** Reads a PEFT or mlx-lm folder. Throws UserError where it is none, or broken. */
export async function readAdapterFolder(path: string): Promise<AdapterFiles> {
  return (await isMlxAdapter(path)) ? readMlxAdapter(path) : readAdapter(path);
}

/**
 * The base that an adapter names as its own; null where it names none, as GGUF files do. Throws UserError where there
 * is no adapter.
 */
export async function baseNamedBy(path: string): Promise<string | null> {
  const own = await ownConfigOf(path);
  if (own) return own.base_model_name_or_path;
  if ((await stat(path)).isDirectory()) {
    return (await readAdapterFolder(path)).config.base_model_name_or_path;
  }
  if (isAdapterGguf(await readGguf(path))) return null;
  throw new UserError(`${path} is a model, not an adapter`);
}

/** The layers of a model as llama.cpp has them, from its shape. Throws UserError for a model that it has not. */
export function llamaCppBase(place: string, model: Described): LoraBase {
  return loraBaseOf(place, ggufFormOf(place, model.config, 'adapters for'), model);
}

/** The layers of a base (a folder, a GGUF file or a hub id), from its configuration alone. */
export async function openLoraBase(name: string, options: LocateOptions): Promise<LoraBase> {
  const path = await locate(name, { kind: 'model', ...options });
  if (!(await stat(path)).isDirectory()) {
    const { form, described } = await describeGguf(await readGguf(path));
    return loraBaseOf(path, form, described);
  }
  const place = join(path, 'config.json');
  const config = parseModelConfig(place, await readJson(place, z.unknown()));
  return llamaCppBase(path, describe(config));
}

/** A GGUF adapter does not tell its base. */
export function missingBase(path: string): UserError {
  return new UserError(`${path}: which model is this adapter for? Name it by --base, a folder or GGUF file`);
}
