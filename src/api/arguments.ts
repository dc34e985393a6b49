/** What calls of the library are given, checked at their door: one table of schemas, one sentence for all that is wrong. */
import * as z from 'zod';
import { storedDTypes } from '../base/tensor.js';
import { ggufDTypes } from '../formats/gguf/types.js';
import { checkJson } from '../formats/io/json.js';
import { POOLINGS, TASKS } from '../formats/task.js';
import { onnxDTypes } from '../formats/transformersJs.js';
import { devices } from '../graph/op.js';
import { MAX_THREADS } from '../graph/runtime/session.js';
import { combineSchema } from '../methods/combine.js';
import { toLoraShape } from '../methods/toLora.js';
import { objectiveShape } from '../train/objectives/named.js';
import { answeringShape } from './generations.js';
import { mergedFormats } from './merged.js';
import { quantizeOption } from './quantizedBase.js';
import { conversionTargets } from './replace.js';

const text = z.string().min(1);
const texts = z.array(text);
const flag = z.boolean().optional();
const count = z.int().positive().optional();
const call = z
  .custom<unknown>((value) => typeof value === 'function', { error: 'expected a function' })
  .optional();
const signal = z.instanceof(AbortSignal, { error: 'expected an AbortSignal' }).optional();
const anObject = (error: string) =>
  z.custom<object>((value) => typeof value === 'object' && value !== null && !Array.isArray(value), {
    error,
  });
const config = anObject('expected an object of options');

const work = { onProgress: call, signal };
const locating = { onNotice: call, onDownload: call };
const overwrite = { overwrite: flag };
const maxShardBytes = z.number().positive().optional();
const name = z.string().optional();
const weights = z.array(z.number()).optional();
const dtype = z.enum(ggufDTypes).optional();

/** Rows, or where they lie. */
const data = z.custom<unknown>(isSource, {
  error: 'expected a path, a list of paths, or rows: something to iterate over',
});

function isSource(value: unknown): boolean {
  if (typeof value === 'string') return value !== '';
  return (
    typeof value === 'object' && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value)
  );
}

/** What a job on data is given besides hyper-parameters, which are checked where they are read. */
const training = z.looseObject({
  data,
  evalData: data.optional(),
  evalSplit: z.number().positive().optional(),
  lossOn: z.enum(['completion', 'all']).optional(),
  addEos: flag,
  maxLength: z.int().positive().optional(),
  run: text.optional(),
  resume: flag,
  onData: call,
  ignoreMemory: flag,
  availableMemory: z.number().positive().optional(),
  ...work,
});
const prompt = z.union([z.string(), z.array(z.unknown())], {
  error: 'expected a text or a list of messages',
});
/** What generating is given besides its options, which are checked where they are read. */
const generating = z.looseObject({ signal, tools: z.array(z.unknown()).optional() });
const further = { method: text.optional(), config: config.optional() };

/** By call, its arguments in their order. */
const CALLS = {
  loadModel: {
    path: text,
    options: z.strictObject({
      ...locating,
      ...work,
      quantize: quantizeOption,
      device: z.enum(devices).optional(),
      threads: z.int().min(1).max(MAX_THREADS).optional(),
      chatTemplate: text.optional(),
      task: z
        .strictObject({
          kind: z.enum(TASKS),
          labels: z.array(text).optional(),
          labelsOf: call,
          pooling: z.enum(POOLINGS).optional(),
          normalize: flag,
        })
        .optional(),
    }),
  },
  addMethod: {
    method: text,
    config,
    options: z.strictObject({
      name,
      seed: z.int().nonnegative().optional(),
      starts: z.instanceof(Map, { error: 'expected a Map' }).optional(),
      ...work,
    }),
  },
  loadAdapter: { path: text, options: z.strictObject({ name, ...further, ...locating, ...work }) },
  loadAdapters: { paths: texts, options: z.strictObject({ ...locating, ...work }) },
  addWeightedAdapter: {
    names: texts,
    options: z.strictObject({ ...combineSchema.shape, weights, name }),
  },
  setAdapter: {
    names: z.union([text, texts], { error: 'expected the name of an adapter, or a list of names' }),
  },
  deleteAdapter: { name: text },
  saveAdapter: { folder: text, options: z.strictObject({ name, ...overwrite }) },
  saveMerged: {
    path: text,
    options: z.strictObject({
      format: z.enum(mergedFormats).optional(),
      dtype,
      maxShardBytes,
      onNotice: call,
      ...overwrite,
      ...work,
    }),
  },
  'model.exportOnnx': {
    folder: text,
    options: z.strictObject({
      dtype: z.array(z.enum(onnxDTypes)).min(1).optional(),
      maxShardBytes,
      ...overwrite,
      ...work,
    }),
  },
  mergeAndUnload: {
    options: z.strictObject({ folder: text.optional(), dtype, maxShardBytes, ...overwrite, ...work }),
  },
  train: { options: training },
  findLearningRate: { options: training },
  planRanks: { method: text, config, options: training },
  planEva: { method: text, config, options: training },
  evaluate: {
    data,
    options: z.strictObject({
      maxLength: z.int().positive().optional(),
      lossOn: z.enum(['completion', 'all']).optional(),
      addEos: flag,
      generate: z.strictObject(answeringShape).optional(),
      ...objectiveShape,
      ...work,
    }),
  },
  generate: { prompt, options: generating },
  embed: {
    texts,
    options: z.strictObject({ maxLength: z.int().positive().optional(), signal }),
  },
  predict: { data, options: z.strictObject({ maxLength: z.int().positive().optional(), signal }) },
  convert: {
    path: text,
    output: text,
    options: z.strictObject({
      to: z.enum(conversionTargets).optional(),
      base: text.optional(),
      ...toLoraShape,
      dtype,
      maxShardBytes,
      ...overwrite,
      ...locating,
      ...work,
    }),
  },
  inspect: {
    path: text,
    options: z.strictObject({ method: text.optional(), methodOptions: config.optional(), ...locating }),
  },
  plan: {
    model: text,
    options: z.strictObject({
      method: text.optional(),
      methodOptions: config.optional(),
      allMethods: flag,
      tasks: z.number().optional(),
      dtype: z.enum(storedDTypes).optional(),
      quantize: quantizeOption,
      batchSize: count,
      maxLength: z.int().min(2).optional(),
      microBatchTokens: count,
      gradientCheckpointing: flag,
      checkpointedLayers: count,
      packing: flag,
      ...locating,
    }),
  },
  exportOnnx: { model: text, adapters: texts, output: text },
  combineIntoFolder: { paths: texts, output: text },
  extract: { base: text, tuned: text, output: text },
  resize: { adapter: text, output: text },
  analyze: { adapter: text, other: text.optional() },
  listRuns: { folder: text },
  readRun: { folder: text },
  readMetrics: { folder: text },
} as const satisfies Record<string, Record<string, z.ZodType>>;

/**
 * Checks what a call is given, in the order of its arguments. Throws UserError naming the call, the argument and the key, and
 * for a key that is unknown the one that it is near to.
 */
export function checkArguments(of: keyof typeof CALLS, given: readonly unknown[]): void {
  for (const [i, [argument, schema]] of Object.entries(CALLS[of]).entries()) {
    const place = argument === 'options' ? (PLACES[of] ?? `${of} options`) : `${of}: ${argument}`;
    checkJson(place, given[i], schema as z.ZodType);
  }
}

/** Where the rest of the options is checked too, the same words. */
const PLACES: Partial<Record<keyof typeof CALLS, string>> = {
  addWeightedAdapter: 'combination options',
  train: 'training options',
  findLearningRate: 'training options',
  planRanks: 'training options',
  planEva: 'training options',
  generate: 'generation options',
};
