import { join } from 'node:path';
import * as z from 'zod';
import { type F32Tensor, f32, type StoredDType, transposedRows } from '../base/tensor.js';
import { Turns, type WorkOptions } from '../base/work.js';
import { readChatTemplates, sameTemplates, writeChatTemplates } from '../formats/chatTemplates.js';
import { writeCheckpoint } from '../formats/checkpoint.js';
import { copyCompanions, copyTokenizer } from '../formats/companions.js';
import { encodeF32 } from '../formats/float16.js';
import { addEndTokens } from '../formats/generationConfig.js';
import { jsonTextLike } from '../formats/io/exactJson.js';
import { readJson, readText } from '../formats/io/node.js';
import { writeFileAtomic, writeFolderAtomic } from '../formats/io/write.js';
import { RECIPE_FILE } from '../formats/quant/recipe.js';
import {
  readTensorBytes,
  safetensorsDType,
  type TensorEntry,
  type TensorInfo,
  weightDType,
} from '../formats/safetensors.js';
import { MODULES_FILE, writeSentenceModules } from '../formats/sentenceModules.js';
import { type Task, taskKeys } from '../formats/task.js';
import { TOKENIZER_FILES, type Tokenizer } from '../formats/tokenizer.js';
import { compile } from '../graph/emit.js';
import { input } from '../graph/ops/index.js';
import type { Feeds, Runtime } from '../graph/runtime/session.js';
import type { BaseModel } from '../models/base.js';
import type { Adapter } from './adapter.js';
import { type Change, mergedWeights } from './merged.js';

export interface MergeOptions extends WorkOptions {
  /** Element type of the merged model's weights; default: each tensor's own, as PEFT does. */
  dtype?: StoredDType;
  maxShardBytes?: number;
  /** Replace an existing folder. */
  overwrite?: boolean;
}

/** What the writers of merged models are told besides. */
export interface WithTokenizer {
  /** With the chat templates of the result, and the tokens that end a turn by them; default: the base's own. */
  tokenizer?: Tokenizer;
}

/** A tensor of a model with an adapter merged in. */
export interface MergedTensor {
  name: string;
  shape: readonly number[];
  /** Whether files have it the other way round, [in, out]. */
  isTransposed: boolean;
  /** Where the base's file has it, merged or not; undefined for what lies quantized. */
  info?: TensorInfo;
  /** Whether it is another than the base's. */
  changed: boolean;
  /** Its values, computed when they are asked for. */
  values(): Promise<Float32Array>;
}

/** The tensors of a model with an adapter merged in (of the model alone without one), its vocabulary, and whether its head is tied. */
export function mergedTensors(
  runtime: Runtime,
  model: BaseModel,
  adapter: Adapter | undefined,
): { tensors: MergedTensor[]; tied: boolean; vocabSize: number } {
  const merged = adapter ? mergedWeights(model, adapter) : new Map<string, Change>();
  // A head that parts from its embedding is written under its own name.
  const parted = [...merged].filter(([name]) => !model.parameters.has(name));
  const { checkpoint, quantized, fresh } = model;
  const names = new Map<string, string>([
    ...[...checkpoint.tensors.keys(), ...quantized.keys(), ...fresh].map((name) => [name, name] as const),
    ...parted.map(([name, { from }]) => [name, from] as const),
  ]);
  const tensors = [...names].map(([name, from]): MergedTensor => {
    const change = merged.get(name);
    const stored = checkpoint.tensors.get(from) ??
      quantized.get(from) ?? { shape: model.parameters.get(from)! };
    const isTransposed = model.transposed.has(from);
    const shape = isTransposed && !quantized.has(from) ? [...stored.shape].reverse() : stored.shape;
    const values = async () => {
      const weight = f32(await checkpoint.read(from), shape);
      return change ? (await runChange(runtime, weight, change)).data : weight.data;
    };
    const info = checkpoint.tensors.get(from);
    const changed = change !== undefined;
    return { name, shape: change?.shape ?? shape, isTransposed, info, changed, values };
  });
  const tied = model.config.tieWordEmbeddings && parted.length === 0;
  return { tensors, tied, vocabSize: adapter?.vocabSize ?? model.config.vocabSize };
}

/**
 * Writes a model folder whose weights are W₀ + (α/r)·BA at the adapted sites and the base's own bytes elsewhere; a copy
 * without an adapter. One tensor is held at a time. Of a quantized base the dequantized
 * matrices are written, merged or not: they are what the adapter was trained on. With an adapter generation_config.json
 * names the tokens that it was taught to end with. Throws UserError where the method cannot merge or the folder exists.
 */
export async function writeMergedModel(
  folder: string,
  runtime: Runtime,
  model: BaseModel,
  adapter: Adapter | undefined,
  { dtype, maxShardBytes, overwrite, onProgress, signal, tokenizer }: MergeOptions & WithTokenizer = {},
): Promise<void> {
  const { tensors, tied, vocabSize } = mergedTensors(runtime, model, adapter);
  const turns = new Turns(signal);
  let done = 0;
  const entries = tensors.map((tensor): TensorEntry => {
    const { name, info, changed, isTransposed } = tensor;
    const shape = isTransposed ? [...tensor.shape].reverse() : tensor.shape;
    // Tensors that hold no weights keep what they are; what lay quantized has no dtype of its own to keep.
    const isWeight = !info || weightDType(info.dtype) !== undefined;
    const stored = dtype && isWeight ? safetensorsDType(dtype) : (info?.dtype ?? 'F32');
    const data = async () => {
      await turns.take();
      const same = info && !changed && info.dtype === stored;
      const bytes = same
        ? await readTensorBytes(info)
        : encodeF32(await valuesInFile(tensor), weightDType(stored)!);
      onProgress?.({ what: 'writing', done: ++done, total: tensors.length, unit: 'tensors' });
      return bytes;
    };
    return { name, shape, dtype: stored, data };
  });
  await writeFolderAtomic(
    folder,
    async (temporary) => {
      await writeCheckpoint(temporary, entries, { maxShardBytes });
      const written = dtype ?? (model.quantized.size > 0 ? 'float32' : undefined);
      await copyModelFiles(model.folder, temporary, {
        dtype: written,
        task: model.config.task,
        tied,
        vocabSize,
        width: model.config.hiddenSize,
        tokenizer: adapter?.tokenizer?.folder,
      });
      if (tokenizer && !sameTemplates(tokenizer.chatTemplates, await readChatTemplates(temporary)))
        await writeChatTemplates(temporary, tokenizer.chatTemplates);
      if (tokenizer && adapter) await addEndTokens(temporary, tokenizer.eosIds);
    },
    { overwrite },
  );
}

/** A tensor's values as files have them. */
async function valuesInFile({ shape, isTransposed, values }: MergedTensor): Promise<Float32Array> {
  const own = await values();
  return isTransposed ? transposedRows(own, shape[0], shape[1]) : own;
}

/** Computes one merged tensor by a graph of its own. */
async function runChange(runtime: Runtime, weight: F32Tensor, change: Change): Promise<F32Tensor> {
  const feeds: Feeds = { weight };
  const merged = change.apply(input('weight', 'float32', weight.dims), (value, name) => {
    feeds[name] = value;
    return input(name, 'float32', value.dims);
  });
  const graph = compile({ merged });
  const session = await runtime.load(graph);
  const used = Object.fromEntries(graph.inputs.map(({ name }) => [name, feeds[name]]));
  const outputs = await session.run(used);
  await session.close();
  return outputs.merged as F32Tensor;
}

/** Of the result this is another, or not true. */
const OWN = ['config.json', RECIPE_FILE];

async function copyModelFiles(
  from: string,
  to: string,
  {
    dtype,
    tied,
    vocabSize,
    width,
    task,
    tokenizer = from,
  }: {
    dtype?: StoredDType;
    tied: boolean;
    vocabSize: number;
    width: number;
    task?: Task;
    tokenizer?: string;
  },
): Promise<void> {
  const isOther = task !== undefined && task.kind !== 'embedding';
  await copyCompanions(from, to, [...OWN, ...TOKENIZER_FILES, ...(isOther ? [MODULES_FILE] : [])]);
  await copyTokenizer(tokenizer, to);
  const place = join(from, 'config.json');
  const config = await readJson(place, z.record(z.string(), z.unknown()));
  if (config.tie_word_embeddings === true && !tied) config.tie_word_embeddings = false;
  config.vocab_size = vocabSize;
  if (task) Object.assign(config, taskKeys(config, task));
  if (task?.kind === 'embedding') await writeSentenceModules(to, task, width);
  if (dtype) config['torch_dtype' in config ? 'torch_dtype' : 'dtype'] = dtype;
  const text = jsonTextLike(config, await readText(place));
  await writeFileAtomic(join(to, 'config.json'), `${text}\n`);
}
