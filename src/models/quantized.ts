/** Matrices of a base that lie quantized: how they are found, read and multiplied with. */
import { UserError } from '../base/errors.js';
import type { Checkpoint } from '../formats/checkpoint.js';
import {
  type MatrixShape,
  packedBytes,
  packedParts,
  type QuantFormat,
  quantCodecs,
  quantFormats,
  unpack,
} from '../formats/quant/index.js';
import { readTensorBytes, type TensorInfo } from '../formats/safetensors.js';
import { dequantize, quantDims, weight } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';

/** A matrix that lies quantized on disk, as bytes named NAME.FORMAT. */
export interface QuantizedTensor {
  format: QuantFormat;
  shape: MatrixShape;
  /** Where its bytes lie (formats/quant, packedParts). */
  info: TensorInfo;
}

/** The format of a model's quantized matrices; undefined where it has none. */
export function formatOf({
  quantized,
}: {
  quantized: ReadonlyMap<string, QuantizedTensor>;
}): QuantFormat | undefined {
  return quantized.values().next().value?.format;
}

/** The matrices of `parameters` that a checkpoint has quantized. Throws UserError where one has another size. */
export function findQuantized(
  checkpoint: Checkpoint,
  parameters: ReadonlyMap<string, readonly number[]>,
): Map<string, QuantizedTensor> {
  const found = new Map<string, QuantizedTensor>();
  for (const [name, shape] of parameters) {
    const format = quantFormats.find((f) => checkpoint.tensors.has(`${name}.${f}`));
    if (format === undefined || checkpoint.tensors.has(name)) continue;
    const info = checkpoint.tensors.get(`${name}.${format}`)!;
    const matrix: MatrixShape = [shape[0], shape[1]];
    const bytes = packedBytes(format, matrix);
    if (shape.length !== 2 || info.dtype !== 'U8' || info.length !== bytes) {
      throw new UserError(
        `${info.file}: tensor "${info.name}" is ${info.dtype} of ${info.length} bytes, config.json makes it U8 of ${bytes}`,
      );
    }
    found.set(name, { format, shape: matrix, info });
  }
  return found;
}

/** A checkpoint that dequantizes what it is asked for. */
export function withQuantized(
  checkpoint: Checkpoint,
  quantized: ReadonlyMap<string, QuantizedTensor>,
): Checkpoint {
  const packed = new Set([...quantized.values()].map(({ info }) => info.name));
  return {
    folder: checkpoint.folder,
    tensors: new Map([...checkpoint.tensors].filter(([name]) => !packed.has(name))),
    async read(name) {
      const tensor = quantized.get(name);
      if (!tensor) return checkpoint.read(name);
      const { format, shape, info } = tensor;
      return quantCodecs[format].dequantize(unpack(format, await readTensorBytes(info), shape), shape);
    },
  };
}

/** A quantized weight as the graph sees it: codes and scales mapped from the file, float32 to all that use it. */
export function quantizedWeight(
  name: string,
  { format, shape, info }: QuantizedTensor,
  /** What the engine knows the file by, and whether products may be in 8-bit arithmetic. */
  { file, fast }: { file: string; fast: boolean },
): Tensor {
  const parts = packedParts(format, shape);
  const dims = quantDims(format, shape);
  const leaf = (part: keyof typeof parts, stored: 'uint8' | 'float32', leafShape: readonly number[]) =>
    weight({
      name: `${name}.${part}`,
      shape: leafShape,
      stored,
      file,
      offset: info.offset + parts[part].offset,
      length: parts[part].length,
    });
  return dequantize(
    leaf('codes', 'uint8', dims.codes),
    leaf('scales', 'float32', dims.scales),
    leaf('rowSquares', 'float32', [shape[0]]),
    { format, shape, fast },
  );
}
