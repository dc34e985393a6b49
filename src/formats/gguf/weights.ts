/** The tensors of a llama.cpp model under Hugging Face's names and in its order of rows. */
import { UserError } from '../../base/errors.js';
import { type StoredDType, transposedRows } from '../../base/tensor.js';
import { encodeF32 } from '../float16.js';
import { readInto } from '../io/node.js';
import { safetensorsDType, type TensorEntry } from '../safetensors.js';
import { type Gguf, type GgufTensor, readGgufTensor } from './reader.js';
import { fromGgufRows, type GgufWeight, ggufShape } from './rows.js';
import type { GgmlType } from './types.js';

/** Only there to be converted into the configuration. */
const FOLDED_INTO_CONFIG = new Set([
  'rope_freqs.weight',
  'rope_factors_long.weight',
  'rope_factors_short.weight',
]);

/** A tensor as the network asks for it, which also tells how a folder has it and the blocks it comes from. */
export interface GgufModelEntry extends TensorEntry {
  stored: TensorEntry;
  blocks: { type: GgmlType; read(): Promise<Uint8Array> };
}

/** The type that keeps a tensor's values as they are: its own, and float32 for what is quantized. */
export function exactDType(type: GgmlType): StoredDType {
  return type === 'F16' ? 'float16' : type === 'BF16' ? 'bfloat16' : 'float32';
}

/**
 * Entries of a model's tensors, each dequantized when its turn comes; without `dtype` in the type that keeps its values.
 * `modelType` names the model in errors.
 * @throws UserError when one of them is missing, has another shape, or the file has one more.
 */
export function weightEntries(
  gguf: Gguf,
  modelType: string,
  weights: readonly GgufWeight[],
  dtype?: StoredDType,
): GgufModelEntry[] {
  const known = new Set(weights.map((w) => w.gguf));
  for (const name of gguf.tensors.keys()) {
    if (!known.has(name) && !FOLDED_INTO_CONFIG.has(name)) {
      throw new UserError(`${gguf.path}: tensor "${name}" is not part of a ${modelType} model`);
    }
  }
  return weights.map((weight) => {
    const { hf, shape, rows, offset = 0 } = weight;
    const info = tensorOf(gguf, weight);
    const stored = dtype ?? exactDType(info.type);
    const values = async () => {
      const own = fromGgufRows(await readGgufTensor(gguf, info), shape[0], rows);
      return offset === 0 ? own : own.map((x) => x - offset);
    };
    const entry = { name: hf, dtype: safetensorsDType(stored), shape };
    const data = async () => encodeF32(await values(), stored);
    const turned = async () => encodeF32(transposedRows(await values(), shape[0], shape[1]), stored);
    return {
      ...entry,
      data,
      stored: weight.isTransposed
        ? { ...entry, shape: [shape[1], shape[0]], data: turned }
        : { ...entry, data },
      blocks: {
        type: info.type,
        read: async () => {
          const bytes = new Uint8Array(info.length);
          await readInto(gguf.path, bytes, info.offset);
          return fromGgufRows(bytes, shape[0], rows);
        },
      },
    };
  });
}

/** The tensor of a weight; of one of many in a tensor, its part of that. */
function tensorOf(gguf: Gguf, weight: GgufWeight): GgufTensor {
  const { gguf: name, part } = weight;
  const shape = ggufShape(weight);
  const info = gguf.tensors.get(name);
  if (info === undefined) throw new UserError(`${gguf.path}: tensor "${name}" is missing`);
  if (info.shape.join() !== shape.join()) {
    throw new UserError(
      `${gguf.path}: tensor "${name}" has shape [${info.shape.join(', ')}], expected [${shape.join(', ')}]`,
    );
  }
  if (!part) return info;
  const length = info.length / part.of;
  return { ...info, shape: [...weight.shape], length, offset: info.offset + part.index * length };
}
