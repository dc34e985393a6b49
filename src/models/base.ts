import { realpath } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { sizeOf } from '../base/tensor.js';
import { type Checkpoint, openCheckpoint } from '../formats/checkpoint.js';
import { readJson } from '../formats/io/node.js';
import { weightDType } from '../formats/safetensors.js';
import { add, cast, gather, input, matmul, weight } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { decoder, lmHead } from './decoder.js';
import { parseModelConfig } from './index.js';
import type { DecoderConfig, LinearShape, Site, Sites, Stream } from './model.js';
import { findQuantized, type QuantizedTensor, quantizedWeight, withQuantized } from './quantized.js';
import { refuseMoreLayers, settleHead, unusedNotice, withPrefix } from './weights.js';

/** A pre-trained model on disk: nothing of its weights is in memory. */
export interface BaseModel {
  /** Absolute path of the Hugging Face folder. */
  folder: string;
  config: DecoderConfig;
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
  /** Folder that all weight files lie under, links followed; the engine maps them from there. */
  weightsFolder: string;
  /** Every layer that can be adapted, in the model's order. */
  sites: readonly Site[];
  /** Every tensor that the model uses, by checkpoint name, with its shape. */
  parameters: ReadonlyMap<string, readonly number[]>;
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
  const found = await openCheckpoint(folder);
  refuseMoreLayers(place, parsed, found);
  const named = withPrefix(found, describe(parsed).parameters);
  const { config, checkpoint: stored, notice } = await settleHead(parsed, named);
  const { sites, parameters } = describe(config);
  const quantized = findQuantized(stored, parameters);
  const checkpoint = withQuantized(stored, quantized);
  for (const [name, shape] of parameters) {
    if (quantized.has(name)) continue;
    const info = checkpoint.tensors.get(name);
    if (!info)
      throw new UserError(`${checkpoint.folder}: tensor "${name}" is missing; config.json asks for it`);
    if (String(info.shape) !== String(shape)) {
      throw new UserError(
        `${info.file}: tensor "${name}" has shape [${info.shape}], config.json makes it [${shape}]`,
      );
    }
    if (!weightDType(info.dtype)) {
      throw new UserError(`${info.file}: tensor "${name}" is ${info.dtype}, expected F32, F16, BF16 or F64`);
    }
  }
  for (const told of [notice, unusedNotice(checkpoint, parameters)]) if (told) onNotice?.(told);
  const files = [...new Set([...stored.tensors.values()].map((t) => t.file))];
  const weightsFolder = commonFolder(await Promise.all(files.map((f) => realpath(f))));
  return { folder: stored.folder, config, checkpoint, quantized, weightsFolder, sites, parameters };
}

/** Numbers in all of a model's tensors. */
export function parameterCount({ parameters }: Pick<BaseModel, 'parameters'>): number {
  let total = 0;
  for (const shape of parameters.values()) total += sizeOf(shape);
  return total;
}

/** Sites and parameters of a model by its shape alone, without a file: builds the graph and notes what it asks for. */
export function describe(config: DecoderConfig): Pick<BaseModel, 'sites' | 'parameters'> {
  const sites: Site[] = [];
  const parameters = new Map<string, readonly number[]>();
  const recorder = new BaseSites(
    (name, shape) => {
      parameters.set(name, shape);
      return input(name, 'float32', shape);
    },
    (site) => sites.push(site),
  );
  lmHead(config, recorder, decoder(config, recorder, trainingStream(config)));
  return { sites, parameters };
}

/**
 * Sites that compute what the checkpoint says; `parameter` supplies each tensor by its checkpoint name. The matrix of
 * a tied head is asked for by the embedding's name, and `own` is what it would be called if it were not tied.
 */
export class BaseSites implements Sites {
  constructor(
    private readonly parameter: (name: string, shape: readonly number[], own?: string) => Tensor,
    private readonly visit: (site: Site) => void = () => {},
  ) {}

  linear(name: string, x: Tensor, shape: LinearShape): Tensor {
    const bias = shape.bias ?? false;
    this.visit({ name, kind: 'linear', in: shape.in, out: shape.out, bias });
    const y = matmul(x, this.parameter(`${name}.weight`, [shape.out, shape.in]), { transB: true });
    return bias ? add(y, this.parameter(`${name}.bias`, [shape.out])) : y;
  }

  tiedLinear(name: string, tiedTo: string, x: Tensor, shape: LinearShape): Tensor {
    this.visit({ name, kind: 'linear', in: shape.in, out: shape.out, bias: false, tiedTo });
    const matrix = this.parameter(`${tiedTo}.weight`, [shape.out, shape.in], `${name}.weight`);
    return matmul(x, matrix, { transB: true });
  }

  embedding(name: string, ids: Tensor, shape: { in: number; out: number }): Tensor {
    this.visit({ name, kind: 'embedding', in: shape.in, out: shape.out, bias: false });
    return gather(this.parameter(`${name}.weight`, [shape.in, shape.out]), ids);
  }

  param(name: string, shape: readonly number[]): Tensor {
    return this.parameter(name, shape);
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
  return stored === 'float32' ? frozen : cast(frozen, !model.serving);
}

/** What the engine knows a weights file by. */
function pathInside({ weightsFolder }: BaseModel, file: string): string {
  return relative(weightsFolder, file).split(sep).join('/');
}

/**
 * Inputs of a whole-sequence pass: sizes `batch` and `seq` are symbolic. Packed rows have a mask each, others share one.
 */
export function trainingStream(c: DecoderConfig, packed = false): Stream {
  const groups = c.heads / c.kvHeads;
  const keys = groups === 1 ? 'seq' : `${groups}*seq`;
  return {
    ids: input('ids', 'int32', ['batch', 'seq']),
    positions: input('positions', 'int64', ['batch', 'seq']),
    mask: input('mask', 'float32', [packed ? 'batch' : 1, 1, keys, 'seq']),
    cos: input('cos', 'float32', ['table', c.headDim / 2]),
    sin: input('sin', 'float32', ['table', c.headDim / 2]),
  };
}

function commonFolder(files: readonly string[]): string {
  let folder = dirname(files[0]);
  while (!files.every((f) => f.startsWith(folder.endsWith(sep) ? folder : folder + sep)))
    folder = dirname(folder);
  return folder;
}
