import { realpath } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { type Checkpoint, openCheckpoint } from '../formats/checkpoint.js';
import { readJson } from '../formats/io/node.js';
import { weightDType } from '../formats/safetensors.js';
import { readSentenceTask } from '../formats/sentenceModules.js';
import type { EmbeddingTask } from '../formats/task.js';
import { cast, transpose, weight } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { freshWeight } from './fresh.js';
import { parseModelConfig } from './index.js';
import { findQuantized, type QuantizedTensor, quantizedWeight, withQuantized } from './quantized.js';
import { type Described, describe, transposedIn } from './shape.js';
import {
  refuseMoreLayers,
  settleHead,
  settlePooler,
  unusedNotice,
  withPrefix,
  withTransposed,
} from './weights.js';

/** A pre-trained model on disk: nothing of its weights is in memory. */
export interface BaseModel extends Described {
  /** Absolute path of the Hugging Face folder. */
  folder: string;
  /** Its tensors; read() dequantizes those that lie quantized, which are not among `tensors`. */
  checkpoint: Checkpoint;
  /** Matrices that lie quantized, by checkpoint name. */
  quantized: ReadonlyMap<string, QuantizedTensor>;
  /** Reads, by checkpoint name, what a quantized matrix was quantized from; absent where that is not known. */
  original?: (name: string) => Promise<Float32Array>;
  /**
   * Decodes a few tokens at a time: matrices in half precision are cast once and kept so, and products with int4 and
   * int8 matrices are in 8-bit arithmetic. Otherwise no matrix is wide for longer than its product.
   */
  serving?: boolean;
  /** Its matrices that the files have as [in, out]; `checkpoint` reads them as [out, in]. */
  transposed: ReadonlySet<string>;
  /** What of a task's head no file has: it starts at random, and trains whatever the method. */
  fresh: ReadonlySet<string>;
  /** Folder that all weight files lie under, links followed; the engine maps them from there. */
  weightsFolder: string;
}

/** What is told while a model is opened. */
export interface OpenOptions {
  /** Weights that the configuration has no place for, or contradicts. */
  onNotice?: (message: string) => void;
}

/**
 * Opens a model folder: config.json and safetensors. Checks that every tensor the architecture needs is
 * there, in the shape that the config says. Throws UserError otherwise.
 */
export async function openModel(folder: string, { onNotice }: OpenOptions = {}): Promise<BaseModel> {
  const place = join(folder, 'config.json');
  const parsed = parseModelConfig(place, await readJson(place, z.unknown()));
  const task = parsed.task ?? (await sentenceTask(folder, onNotice));
  const configured = describe({ ...parsed, ...(task && { task }) });
  const found = await openCheckpoint(folder);
  refuseMoreLayers(place, configured.network, found);
  const named = withPrefix(found, configured);
  const { config, checkpoint: stored, notice } = await settleHead(configured.network, named);
  const described = describe(settlePooler(config, configured.network, stored));
  const { parameters } = described;
  const quantized = findQuantized(stored, parameters);
  const transposed = transposedIn(described.sites);
  const checkpoint = withQuantized(withTransposed(stored, transposed), quantized);
  for (const [name, shape] of parameters) {
    if (quantized.has(name)) continue;
    const info = checkpoint.tensors.get(name);
    if (!info)
      throw new UserError(`${checkpoint.folder}: tensor "${name}" is missing; config.json asks for it`);
    if (String(info.shape) !== String(transposed.has(name) ? [...shape].reverse() : shape)) {
      throw new UserError(
        `${info.file}: tensor "${name}" has shape [${info.shape}], config.json makes it [${shape}]`,
      );
    }
    if (!weightDType(info.dtype)) {
      throw new UserError(`${info.file}: tensor "${name}" is ${info.dtype}, expected F32, F16, BF16 or F64`);
    }
  }
  const unused = unusedNotice(checkpoint, parameters, described.network.names);
  for (const told of [notice, unused]) if (told) onNotice?.(told);
  const files = [...new Set([...stored.tensors.values()].map((t) => t.file))];
  const weightsFolder = commonFolder(await Promise.all(files.map((f) => realpath(f))));
  return {
    folder: stored.folder,
    checkpoint,
    quantized,
    fresh: new Set(),
    weightsFolder,
    transposed,
    ...described,
  };
}

/** The task of a sentence encoder's folder; of one whose modules are others than those here, none. */
async function sentenceTask(
  folder: string,
  onNotice: OpenOptions['onNotice'],
): Promise<EmbeddingTask | undefined> {
  try {
    return await readSentenceTask(folder);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    onNotice?.(`${error.message}: the model is opened without its embeddings`);
    return undefined;
  }
}

/**
 * A frozen weight of the model, mapped from its file; a quantized one is float32 in the graph too. `label` is what the
 * graph calls it, where something else there has its name.
 */
export function frozenWeight(model: BaseModel, name: string, label = name): Tensor {
  const quantized = model.quantized.get(name);
  if (quantized) {
    const file = pathInside(model, quantized.info.file);
    return quantizedWeight(name, quantized, { file, fast: model.serving ?? false });
  }
  if (model.fresh.has(name)) return freshWeight(name, model.parameters.get(name)!);
  const info = model.checkpoint.tensors.get(name)!;
  const stored = weightDType(info.dtype)!;
  const frozen = weight({
    name: label,
    shape: info.shape,
    stored,
    file: pathInside(model, info.file),
    offset: info.offset,
    length: info.length,
  });
  const wide = stored === 'float32' ? frozen : cast(frozen, !model.serving);
  return model.transposed.has(name) ? transpose(wide, [1, 0]) : wide;
}

/** What the engine knows a weights file by. */
function pathInside({ weightsFolder }: BaseModel, file: string): string {
  return relative(weightsFolder, file).split(sep).join('/');
}

function commonFolder(files: readonly string[]): string {
  let folder = dirname(files[0]);
  while (!files.every((f) => f.startsWith(folder.endsWith(sep) ? folder : folder + sep)))
    folder = dirname(folder);
  return folder;
}
