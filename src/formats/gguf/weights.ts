/** The tensors of a llama.cpp model under Hugging Face's names and in its order of rows. */
import { UserError } from '../../base/errors.js';
import type { StoredDType } from '../../base/tensor.js';
import { encodeF32 } from '../float16.js';
import { safetensorsDType, type TensorEntry } from '../safetensors.js';
import type { Architecture, HfConfig } from './config.js';
import { modelTensors, unpermuteRows } from './names.js';
import { type Gguf, type GgufTensor, readGgufTensor } from './reader.js';

/** Only there to be converted into the configuration. */
const FOLDED_INTO_CONFIG = new Set(['rope_freqs.weight']);

/**
 * Entries to write, each dequantized when its turn comes.
 * @throws UserError when a tensor of the architecture is missing, has another shape, or the file has one more.
 */
export function weightEntries(
  gguf: Gguf,
  architecture: Architecture,
  config: HfConfig,
  dtype: StoredDType,
): TensorEntry[] {
  const wanted = modelTensors(architecture, config);
  const known = new Set(wanted.map((w) => w.gguf));
  for (const name of gguf.tensors.keys()) {
    if (!known.has(name) && !FOLDED_INTO_CONFIG.has(name)) {
      throw new UserError(`${gguf.path}: tensor "${name}" is not part of a ${config.model_type} model`);
    }
  }
  return wanted.map(({ gguf: name, hf, shape, permutedHeads }) => {
    const info = tensorOf(gguf, name, shape);
    return {
      name: hf,
      dtype: safetensorsDType(dtype),
      shape,
      data: async () => {
        const values = await readGgufTensor(gguf, info);
        return encodeF32(
          permutedHeads === undefined ? values : unpermuteRows(values, shape[0], permutedHeads),
          dtype,
        );
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
