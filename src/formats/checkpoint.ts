/**
 * Weights of a Hugging Face model folder: model.safetensors, or model.safetensors.index.json and the
 * shards that it names.
 */
import { join, resolve } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { exists, readJson } from './io/node.js';
import { makeFolder, writeFileAtomic } from './io/write.js';
import {
  entryBytes,
  readSafetensorsHeader,
  readTensorF32,
  type TensorEntry,
  type TensorInfo,
  tensorNamed,
  writeSafetensors,
} from './safetensors.js';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const DEFAULT_SHARD_BYTES = 5e9;

/** The weights of a model folder: where each tensor lies, and its values on demand. */
export interface Checkpoint {
  /** Absolute path of the folder, as it was given (its files may be links to elsewhere). */
  folder: string;
  tensors: Map<string, TensorInfo>;
  /** A tensor's values as float32. Throws UserError when there is no such tensor. */
  read(name: string): Promise<Float32Array>;
}

const indexSchema = z.looseObject({
  // A shard is a file of the folder itself: no separators, so no way out of it.
  weight_map: z.record(
    z.string(),
    z
      .string()
      .regex(/^[^/\\:\0]+\.safetensors$/, 'expected the name of a .safetensors file in the same folder'),
  ),
});

/**
 * Reads the headers of a model folder's weights.
 * @throws UserError when there are none, a shard is missing, or a shard lacks a tensor of the index.
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const absolute = resolve(folder);
  return checkpointOf(absolute, await findTensors(absolute));
}

/** The checkpoint of a folder with these tensors. */
export function checkpointOf(folder: string, tensors: Map<string, TensorInfo>): Checkpoint {
  return { folder, tensors, read: async (name) => readTensorF32(tensorNamed(tensors, name, folder)) };
}

async function findTensors(folder: string): Promise<Map<string, TensorInfo>> {
  if (!(await exists(folder))) throw new UserError(`there is no model folder ${folder}`);
  // In this order, as transformers does.
  if (await exists(join(folder, SINGLE))) return (await readSafetensorsHeader(join(folder, SINGLE))).tensors;
  if (await exists(join(folder, INDEX))) return readShards(folder);
  const pickled = ['pytorch_model.bin', 'pytorch_model.bin.index.json'].map((name) =>
    exists(join(folder, name)),
  );
  const hint = (await Promise.all(pickled)).includes(true)
    ? `; PyTorch's pickles are not read, convert them: python -c "from transformers import AutoModelForCausalLM as M; ` +
      `M.from_pretrained('${folder}').save_pretrained('${folder}')"`
    : '';
  throw new UserError(`${folder} has neither ${SINGLE} nor ${INDEX}${hint}`);
}

async function readShards(folder: string): Promise<Map<string, TensorInfo>> {
  const { weight_map } = await readJson(join(folder, INDEX), indexSchema);
  const headers = new Map<string, Map<string, TensorInfo>>();
  for (const shard of new Set(Object.values(weight_map))) {
    const path = join(folder, shard);
    if (!(await exists(path))) throw new UserError(`${folder} lacks the shard ${shard} that ${INDEX} names`);
    headers.set(shard, (await readSafetensorsHeader(path)).tensors);
  }
  const tensors = new Map<string, TensorInfo>();
  for (const [name, shard] of Object.entries(weight_map)) {
    const info = headers.get(shard)!.get(name);
    if (info === undefined) {
      throw new UserError(`${join(folder, shard)} lacks the tensor "${name}" that ${INDEX} places there`);
    }
    tensors.set(name, info);
  }
  return tensors;
}

/**
 * Writes weights into `folder` (made when needed) under Hugging Face's names: one model.safetensors when
 * all fits in `maxShardBytes`, else shards filled in the order of `entries`, and their index.
 * Give it the temporary folder of writeFolderAtomic, so that no half-written model is ever seen.
 */
export async function writeCheckpoint(
  folder: string,
  entries: readonly TensorEntry[],
  { maxShardBytes = DEFAULT_SHARD_BYTES }: { maxShardBytes?: number } = {},
): Promise<void> {
  await makeFolder(folder);
  const shards = splitShards(entries, maxShardBytes);
  const metadata = { format: 'pt' };
  if (shards.length === 1) return writeSafetensors(join(folder, SINGLE), shards[0], metadata);

  const weightMap: [string, string][] = [];
  let totalSize = 0;
  for (const [i, shard] of shards.entries()) {
    const file = `model-${pad(i + 1)}-of-${pad(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, file), shard, metadata);
    for (const entry of shard) {
      weightMap.push([entry.name, file]);
      totalSize += entryBytes(entry);
    }
  }
  const index = { metadata: { total_size: totalSize }, weight_map: Object.fromEntries(weightMap.sort()) };
  await writeFileAtomic(join(folder, INDEX), `${JSON.stringify(index, null, 2)}\n`);
}

function pad(n: number): string {
  return String(n).padStart(5, '0');
}

/** Fills shards in order; a tensor larger than the limit has one to itself. Always at least one shard. */
function splitShards(entries: readonly TensorEntry[], limit: number): TensorEntry[][] {
  const shards: TensorEntry[][] = [[]];
  let size = 0;
  for (const entry of entries) {
    const bytes = entryBytes(entry);
    if (size > 0 && size + bytes > limit) {
      shards.push([]);
      size = 0;
    }
    shards[shards.length - 1].push(entry);
    size += bytes;
  }
  return shards;
}
