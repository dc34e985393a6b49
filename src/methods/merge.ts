import { join } from 'node:path';
import * as z from 'zod';
import { type F32Tensor, f32, type StoredDType } from '../base/tensor.js';
import { writeCheckpoint } from '../formats/checkpoint.js';
import { copyCompanions } from '../formats/companions.js';
import { encodeF32 } from '../formats/float16.js';
import { readJson } from '../formats/io/node.js';
import { writeFileAtomic, writeFolderAtomic } from '../formats/io/write.js';
import { RECIPE_FILE } from '../formats/quant/recipe.js';
import {
  readTensorBytes,
  readTensorF32,
  safetensorsDType,
  type TensorEntry,
  weightDType,
} from '../formats/safetensors.js';
import { compile } from '../graph/emit.js';
import { input } from '../graph/ops/index.js';
import type { Feeds, Runtime } from '../graph/runtime/session.js';
import type { BaseModel } from '../models/base.js';
import type { Adapter } from './adapter.js';
import { type Change, mergedWeights } from './merged.js';

export interface MergeOptions {
  /** Element type of the merged model's weights; default: each tensor's own, as PEFT does. */
  dtype?: StoredDType;
  maxShardBytes?: number;
  /** Replace an existing folder. */
  overwrite?: boolean;
}

/**
 * Writes a model folder whose weights are W₀ + (α/r)·BA at the adapted sites and the base's own bytes elsewhere; a copy
 * without an adapter. One tensor is held at a time. Of a quantized base the dequantized
 * matrices are written, merged or not: they are what the adapter was trained on. Throws UserError where the method
 * cannot merge or the folder exists.
 */
export async function writeMergedModel(
  folder: string,
  runtime: Runtime,
  model: BaseModel,
  adapter: Adapter | undefined,
  { dtype, maxShardBytes, overwrite }: MergeOptions = {},
): Promise<void> {
  const merged = adapter ? mergedWeights(model, adapter) : new Map<string, Change>();
  // A head that parts from its embedding is written under its own name.
  const parted = [...merged].filter(([name]) => !model.parameters.has(name));
  const infos = new Map([
    ...model.checkpoint.tensors,
    ...parted.map(([name, { from }]) => [name, model.checkpoint.tensors.get(from)!] as const),
  ]);
  const entries = [...infos].map(([name, info]): TensorEntry => {
    const stored = dtype && weightDType(info.dtype) ? safetensorsDType(dtype) : info.dtype;
    const entry = { name, dtype: stored, shape: info.shape };
    const change = merged.get(name);
    if (!change) {
      if (stored === info.dtype) return { ...entry, data: () => readTensorBytes(info) };
      return { ...entry, data: async () => encodeF32(await readTensorF32(info), dtype!) };
    }
    return {
      ...entry,
      data: async () => {
        const values = await runChange(runtime, f32(await readTensorF32(info), info.shape), change);
        return encodeF32(values.data, weightDType(stored)!);
      },
    };
  });
  // What lay quantized has no dtype of its own to keep.
  const written = dtype ?? (model.quantized.size > 0 ? 'float32' : undefined);
  for (const [name, { shape }] of model.quantized) {
    const change = merged.get(name);
    const data = async () => {
      const values = f32(await model.checkpoint.read(name), shape);
      return encodeF32((change ? await runChange(runtime, values, change) : values).data, written!);
    };
    entries.push({ name, dtype: safetensorsDType(written!), shape, data });
  }
  await writeFolderAtomic(
    folder,
    async (temporary) => {
      await writeCheckpoint(temporary, entries, { maxShardBytes });
      await copyModelFiles(model.folder, temporary, {
        dtype: written,
        tied: model.config.tieWordEmbeddings && parted.length === 0,
      });
    },
    { overwrite },
  );
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
  { dtype, tied }: { dtype?: StoredDType; tied: boolean },
): Promise<void> {
  await copyCompanions(from, to, OWN);
  const place = join(from, 'config.json');
  const config = await readJson(place, z.record(z.string(), z.unknown()));
  if (config.tie_word_embeddings === true && !tied) config.tie_word_embeddings = false;
  if (dtype) config['torch_dtype' in config ? 'torch_dtype' : 'dtype'] = dtype;
  await writeFileAtomic(join(to, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
}
