/** How a quantized copy of a model is made. */
import { copyFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import { writeCheckpoint } from '../formats/checkpoint.js';
import type { GgufEntry } from '../formats/gguf/weights.js';
import { writeFolderAtomic } from '../formats/io/node.js';
import {
  type MatrixShape,
  pack,
  packedBytes,
  type QuantFormat,
  quantCodecs,
} from '../formats/quant/index.js';
import { readTensorF32, type TensorEntry } from '../formats/safetensors.js';
import { type BaseModel, describe } from './base.js';
import type { DecoderConfig } from './model.js';

export interface QuantizeOptions {
  /** Told of each tensor read, with the share of all weights that is done. */
  onProgress?: (share: number) => void;
}

/**
 * Entries with every linear layer's matrix quantized, as bitsandbytes and transformers choose them: not embeddings, not
 * the LM head. Blocks of llama.cpp that have the format's layout are taken as they are. `entries` are float32.
 */
export function quantizedEntries(
  entries: readonly (TensorEntry & Partial<GgufEntry>)[],
  config: DecoderConfig,
  format: QuantFormat,
  { onProgress }: QuantizeOptions = {},
): TensorEntry[] {
  const { sites } = describe(config);
  const layers = sites.filter((s) => s.kind === 'linear' && s.name !== 'lm_head');
  const chosen = new Set(layers.map((s) => `${s.name}.weight`));
  const codec = quantCodecs[format];
  const total = entries.reduce((n, e) => n + elements(e), 0);
  let done = 0;
  return entries.map((entry) => {
    const counted = (data: () => Promise<Uint8Array> | Uint8Array) => async () => {
      const bytes = await data();
      done += elements(entry);
      onProgress?.(done / total);
      return bytes;
    };
    if (!chosen.has(entry.name)) return { ...entry, data: counted(entry.data) };
    const shape: MatrixShape = [entry.shape[0], entry.shape[1]];
    const quantized = async () => {
      const { blocks } = entry;
      if (blocks && blocks.type === codec.gguf?.type) return codec.gguf.convert(await blocks.read());
      const bytes = await entry.data();
      const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
      const broken = values.findIndex((v) => !Number.isFinite(v));
      if (broken >= 0) throw new UserError(`${entry.name} holds ${values[broken]}: it cannot be quantized`);
      return codec.quantize(values, shape);
    };
    const data = counted(async () => pack(format, await quantized(), shape));
    return { name: `${entry.name}.${format}`, dtype: 'U8', shape: [packedBytes(format, shape)], data };
  });
}

function elements({ shape }: TensorEntry): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** What belongs to a model beside its weights: configuration, tokenizer, templates. */
const COMPANIONS = /^(?!.*\.safetensors\.index\.json$).*\.(json|jinja|model|txt)$/;

/**
 * Writes a copy of a model folder with quantized matrices and float32 for the rest, whole or not at all. It opens as
 * any model does. Throws UserError where the folder exists.
 */
export async function quantizeFolder(
  model: BaseModel,
  folder: string,
  format: QuantFormat,
  options: QuantizeOptions = {},
): Promise<void> {
  const entries = [...model.checkpoint.tensors.values()].map((info): TensorEntry => {
    const data = async () => new Uint8Array((await readTensorF32(info)).buffer);
    return { name: info.name, dtype: 'F32', shape: info.shape, data };
  });
  await writeFolderAtomic(folder, async (temporary) => {
    await writeCheckpoint(temporary, quantizedEntries(entries, model.config, format, options));
    for (const file of await readdir(model.folder)) {
      if (COMPANIONS.test(file)) await copyFile(join(model.folder, file), join(temporary, file));
    }
  });
}
