/** A model that is on no disk: what graphs are built from when only its shape is known. */
import { type StoredDType, sizeOf } from '../base/tensor.js';
import { packedBytes, type QuantFormat } from '../formats/quant/index.js';
import type { SafetensorsDType, TensorInfo } from '../formats/safetensors.js';
import type { BaseModel } from './base.js';
import { isInnerLinear, type ModelConfig } from './model.js';
import type { QuantizedTensor } from './quantized.js';
import { describe, transposedIn } from './shape.js';

const STORED: Readonly<Record<StoredDType, { dtype: SafetensorsDType; bytes: number }>> = {
  float32: { dtype: 'F32', bytes: 4 },
  float16: { dtype: 'F16', bytes: 2 },
  bfloat16: { dtype: 'BF16', bytes: 2 },
};

/**
 * The model of a configuration as it would lie on a disk in an element type, its linear layers quantized where a format is
 * named. Nothing of it can be read or run.
 */
export function imaginedModel(config: ModelConfig, dtype: StoredDType, format?: QuantFormat): BaseModel {
  const described = describe(config);
  const { sites, parameters } = described;
  const file = 'model.safetensors';
  const stored = STORED[dtype];
  const layers = new Set(sites.filter(isInnerLinear).map((s) => `${s.name}.weight`));
  const transposed = transposedIn(sites);
  const tensors = new Map<string, TensorInfo>();
  const quantized = new Map<string, QuantizedTensor>();
  for (const [name, shape] of parameters) {
    if (format && layers.has(name)) {
      const matrix = [shape[0], shape[1]] as const;
      const length = packedBytes(format, matrix);
      const info: TensorInfo = { name, dtype: 'U8', shape: [length], file, offset: 0, length };
      quantized.set(name, { format, shape: matrix, info });
      continue;
    }
    const length = stored.bytes * sizeOf(shape);
    const inFile = transposed.has(name) ? [...shape].reverse() : [...shape];
    tensors.set(name, { name, dtype: stored.dtype, shape: inFile, file, offset: 0, length });
  }
  const read = () => Promise.reject(new Error('there is only the shape of this model'));
  return {
    ...described,
    folder: '',
    quantized,
    fresh: new Set(),
    transposed,
    weightsFolder: '',
    checkpoint: { folder: '', tensors, read },
  };
}
