/** What a model, a method and a job come to, from shapes alone: parameters, bytes on the disk, memory. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { builtInNames, builtInShape, nearestBuiltIn } from '../analysis/plan/builtIn.js';
import { type GpuMemory, gpuMemory, weightBytes } from '../analysis/plan/memory.js';
import {
  countMethod,
  countMethods,
  type Figure,
  type MethodCount,
  type RefusedMethod,
  selectMethod,
} from '../analysis/plan/parameters.js';
import { type ModelShape, shapeOfConfig, shapeOfNetwork } from '../analysis/plan/shapes.js';
import { type StoragePlan, storageOf } from '../analysis/plan/storage.js';
import { UserError } from '../base/errors.js';
import type { StoredDType } from '../base/tensor.js';
import { openCheckpoint } from '../formats/checkpoint.js';
import { readGguf } from '../formats/gguf/reader.js';
import { fromHub } from '../formats/hub/download.js';
import { parseHubId } from '../formats/hub/id.js';
import { exists, readJson } from '../formats/io/node.js';
import type { QuantFormat } from '../formats/quant/index.js';
import { weightDType } from '../formats/safetensors.js';
import type { MethodName } from '../methods/index.js';
import { describeGguf } from '../models/gguf/file.js';
import { imaginedModel } from '../models/imagined.js';
import { parameterCount } from '../models/shape.js';
import { largestMicroBatch, type MicroSize, type TrainingMemory, trainingMemory } from '../train/memory.js';
import { trainSchema } from '../train/options.js';
import { checkArguments } from './arguments.js';
import { embeddedModel, type LocateOptions, locate } from './locate.js';

export interface PlanOptions extends LocateOptions {
  method?: MethodName;
  /** The method's options; with `allMethods` each takes what is its own. */
  methodOptions?: Readonly<Record<string, unknown>>;
  /** Count every method. */
  allMethods?: boolean;
  /** Tasks to store. Default: 1000. */
  tasks?: number;
  /** Element type of the base's weights. Default: as they are stored. */
  dtype?: StoredDType;
  quantize?: QuantFormat;
  batchSize?: number;
  /** Tokens of the longest row. Default: 1024, or the model's limit. */
  maxLength?: number;
  microBatchTokens?: number;
  gradientCheckpointing?: boolean;
  checkpointedLayers?: number;
  packing?: boolean;
}

/** A method with the bytes of the file that its result is saved as. */
export interface PlannedMethod extends MethodCount {
  checkpointBytes: Figure;
}

export interface Plan {
  model: Pick<ModelShape, 'name' | 'modelType' | 'layers' | 'hiddenSize' | 'heads' | 'vocabSize'> & {
    dtype: StoredDType;
    parameters: number;
    /** Of its weights, as they are stored or quantized. */
    bytes: Figure;
  };
  method: PlannedMethod;
  /** Of `allMethods`. */
  methods?: (PlannedMethod | RefusedMethod)[];
  storage: StoragePlan;
  memory: {
    batchSize: number;
    maxLength: number;
    /** What a run of this program computes at once. */
    micro: MicroSize;
    /** On a GPU, in mixed precision, as textbooks count. */
    gpu: GpuMemory;
    /** Of a run of this program on the CPU; null for models that it does not train. */
    here: TrainingMemory | null;
  };
}

const DEFAULT_LENGTH = 1024;
const MICRO_BATCH_TOKENS = trainSchema.shape.microBatchTokens.parse(undefined);
/** What adapters are saved in. */
const ADAPTER_BYTES = 4;
const ELEMENT_BYTES: Readonly<Record<StoredDType, number>> = { float32: 4, float16: 2, bfloat16: 2 };

/**
 * Plans a job by its shape: no weight is read. `model` is a folder, a config.json, a .gguf file, "demo", the name of a
 * built-in shape (gpt3, roberta-base, llama-7b …) or a hub id, of which config.json alone is fetched. Throws UserError where
 * there is no such model, its configuration is not one that is known, or an option does not fit it.
 */
export async function plan(model: string, options: PlanOptions = {}): Promise<Plan> {
  checkArguments('plan', [model, options]);
  return planShape(await shapeOf(model, options), options);
}

/** As plan, of a shape that is known. */
export function planShape(shape: ModelShape, options: Omit<PlanOptions, keyof LocateOptions> = {}): Plan {
  const { method = 'lora', methodOptions = {}, dtype = shape.dtype, quantize, tasks = 1000 } = options;
  const { batchSize = 8, maxLength = Math.min(DEFAULT_LENGTH, shape.maxPositions) } = options;
  const { microBatchTokens = MICRO_BATCH_TOKENS, checkpointedLayers } = options;
  if (maxLength > shape.maxPositions) {
    throw new UserError(
      `a maximum length of ${maxLength} is more than the ${shape.maxPositions} positions of ${shape.name}`,
    );
  }
  const plain = weightBytes(shape, ELEMENT_BYTES[dtype]);
  const planned = (count: MethodCount): PlannedMethod => ({
    ...count,
    checkpointBytes: checkpointOf(count, plain.value),
  });
  const counted = planned(countMethod(shape, method, methodOptions));
  const { gradientCheckpointing = false, packing = false } = options;
  const own = counted.whole;
  if (own && quantize) {
    throw new UserError(
      `method ${method} trains the model's own weights, which a base in ${quantize} has not; leave the format out, or plan an adapter such as lora`,
    );
  }
  // Of a row all tokens but the last are computed.
  const micro = largestMicroBatch(maxLength - 1, microBatchTokens, batchSize);
  const here = () => {
    const imagined = imaginedModel(shape.config!, dtype, quantize);
    return trainingMemory(imagined, selectMethod(imagined, method, methodOptions), {
      micro,
      packed: packing,
      gradientCheckpointing: gradientCheckpointing && (checkpointedLayers ?? true),
    });
  };
  const trainable = counted.trainable.value;
  return {
    model: {
      name: shape.name,
      modelType: shape.modelType,
      layers: shape.layers,
      hiddenSize: shape.hiddenSize,
      heads: shape.heads,
      vocabSize: shape.vocabSize,
      dtype,
      parameters: parameterCount(shape),
      bytes: quantize ? weightBytes(shape, ELEMENT_BYTES[dtype], quantize) : plain,
    },
    method: counted,
    ...(options.allMethods && {
      methods: countMethods(shape, methodOptions).map((row) => ('refused' in row ? row : planned(row))),
    }),
    storage: storageOf(plain.value, counted.checkpointBytes.value, tasks),
    memory: {
      batchSize,
      maxLength,
      micro,
      gpu: gpuMemory(shape, {
        trainable,
        own,
        batch: batchSize,
        length: maxLength,
        gradientCheckpointing,
        quantize,
      }),
      here: shape.config ? here() : null,
    },
  };
}

/** Adapters are saved in float32, whole models as their base is stored. */
function checkpointOf(count: MethodCount, modelBytes: number): Figure {
  if (count.whole) {
    return { value: modelBytes, formula: 'the whole model', numbers: String(modelBytes) };
  }
  return {
    value: ADAPTER_BYTES * count.saved,
    formula: `${ADAPTER_BYTES}·saved`,
    numbers: `${ADAPTER_BYTES}·${count.saved}`,
  };
}

/** The shape that a path, a name or a hub id means. Throws UserError where there is none. */
export async function shapeOf(model: string, options: LocateOptions = {}): Promise<ModelShape> {
  const path = model === 'demo' ? embeddedModel : model;
  if (await exists(path)) return shapeAt(model, path);
  const known = builtInShape(model);
  if (known) return known;
  const id = parseHubId(model);
  if (id?.file !== undefined) return shapeAt(model, await locate(model, { kind: 'model', ...options }));
  if (id) return readShape(model, await fromHub({ ...id, file: 'config.json' }, options));
  const guess = nearestBuiltIn(model);
  throw new UserError(
    `there is no model at ${model}, and no shape of that name${guess ? ` (did you mean "${guess}"?)` : ''}: known are ` +
      builtInNames.join(', '),
  );
}

/** Of a folder, a config.json or a .gguf file that is there. */
async function shapeAt(name: string, path: string): Promise<ModelShape> {
  if (!(await stat(path)).isDirectory()) {
    if (!path.endsWith('.gguf')) return readShape(name, path);
    const { described } = await describeGguf(await readGguf(path));
    // What is trained of it is a conversion to float32.
    return shapeOfNetwork(name, described.config, 'float32');
  }
  const config = join(path, 'config.json');
  if (!(await exists(config))) {
    if (await exists(join(path, 'adapter_config.json')))
      throw new UserError(
        `${path} is an adapter, which has no shape of its own; name the model that it is for`,
      );
    throw new UserError(`${path} has no config.json; name a model's folder, a config.json or a .gguf file`);
  }
  const shape = await readShape(name, config);
  const dtype = await storedAs(path);
  return dtype ? { ...shape, dtype } : shape;
}

async function readShape(name: string, path: string): Promise<ModelShape> {
  return shapeOfConfig(name, path, await readJson(path, z.unknown()));
}

/** The element type that most of a folder's weights have; undefined where it holds none. */
async function storedAs(folder: string): Promise<StoredDType | undefined> {
  const weights = ['model.safetensors', 'model.safetensors.index.json'];
  const there = await Promise.all(weights.map((file) => exists(join(folder, file))));
  if (!there.includes(true)) return undefined;
  const { tensors } = await openCheckpoint(folder);
  const bytes = new Map<StoredDType, number>();
  for (const { dtype, length } of tensors.values()) {
    const stored = weightDType(dtype);
    if (stored === undefined || stored === 'float64') continue;
    bytes.set(stored, (bytes.get(stored) ?? 0) + length);
  }
  return [...bytes].sort((a, b) => b[1] - a[1])[0]?.[0];
}
