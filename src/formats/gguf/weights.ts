/** The tensors of a llama.cpp model under Hugging Face's names and in its order of rows. */
import { UserError } from '../../base/errors.js';
import type { StoredDType } from '../../base/tensor.js';
import { encodeF32 } from '../float16.js';
import { readInto } from '../io/node.js';
import { safetensorsDType, type TensorEntry } from '../safetensors.js';
import type { Architecture, HfConfig } from './config.js';
import { modelTensors, unpermuteRows } from './names.js';
import { type Gguf, type GgufTensor, readGgufTensor } from './reader.js';
import type { GgmlType } from './types.js';

/** Only there to be converted into the configuration. */
const FOLDED_INTO_CONFIG = new Set(['rope_freqs.weight']);

/** A tensor to write that also tells the blocks it comes from. */
export interface GgufEntry extends TensorEntry {
  blocks: { type: GgmlType; read(): Promise<Uint8Array> };
}

/** The type that keeps a tensor's values as they are: its own, and float32 for what is quantized. */
export function exactDType(type: GgmlType): StoredDType {
  return type === 'F16' ? 'float16' : type === 'BF16' ? 'bfloat16' : 'float32';
}

/**
 * Entries to write, each dequantized when its turn comes; without `dtype` in the type that keeps its values.
 * @throws UserError when a tensor of the architecture is missing, has another shape, or the file has one more.
 */
export function weightEntries(
  gguf: Gguf,
  architecture: Architecture,
  config: HfConfig,
  dtype?: StoredDType,
): GgufEntry[] {
  const wanted = modelTensors(architecture, config);
  const known = new Set(wanted.map((w) => w.gguf));
  for (const name of gguf.tensors.keys()) {
    if (!known.has(name) && !FOLDED_INTO_CONFIG.has(name)) {
      throw new UserError(`${gguf.path}: tensor "${name}" is not part of a ${config.model_type} model`);
    }
  }
  return wanted.map(({ gguf: name, hf, shape, permutedHeads }) => {
    const info = tensorOf(gguf, name, shape);
    const stored = dtype ?? exactDType(info.type);
    const inOrder = <T extends Float32Array | Uint8Array>(rows: T): T =>
      permutedHeads === undefined ? rows : unpermuteRows(rows, shape[0], permutedHeads);
    return {
      name: hf,
      dtype: safetensorsDType(stored),
      shape,
      data: async () => encodeF32(inOrder(await readGgufTensor(gguf, info)), stored),
      blocks: {
        type: info.type,
        read: async () => {
          const bytes = new Uint8Array(info.length);
          await readInto(gguf.path, bytes, info.offset);
          return inOrder(bytes);
        },
      },
    };
  });
}

function tensorOf(gguf: Gguf, name: string, shape: readonly number[]): GgufTensor {
  const info = gguf.tensors.get(name);
  if (info === undefined) throw new UserError(`${gguf.path}: tensor "${name}" is missing`);
  if (info.shape.join() !== shape.join()) {
    throw new UserError(
      `${gguf.path}: tensor "${name}" has shape [${info.shape.join(', ')}], expected [${shape.join(', ')}]`,
    );
  }
  return info;
}
