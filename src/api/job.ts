import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { camelCase } from '../base/names.js';
import { POOLINGS, TASKS } from '../formats/task.js';
import { devices } from '../graph/op.js';
import { MAX_THREADS } from '../graph/runtime/session.js';
import { type MethodName, methodNamed, methods } from '../methods/index.js';
import {
  type AskedObjective,
  flatObjective,
  objectiveShape,
  parseObjective,
} from '../train/objectives/named.js';
import { type TrainOptions, trainSchema } from '../train/options.js';
import { type EvaSettings, evaShape, parseEvaOptions } from './eva.js';
import type { FurtherTraining } from './furtherTraining.js';
import { quantizeOption } from './quantizedBase.js';
import { parseRankOptions, type RankSettings, rankShape, requireRanks } from './ranks.js';
import { type SampleOptions, sampleSchema, sampleShape } from './samples.js';
import { taskAsked } from './task.js';

const text = z.string().min(1);
/** A file of rows, or several: the flag again on the command line, a list in a config file. */
export const rowFiles = z.union([text, z.array(text).min(1)], {
  error: () => 'expected a path, or a list of paths',
});
const methodNames = Object.keys(methods) as MethodName[];

export const chatTemplateOption = text
  .meta({ valueName: 'file' })
  .optional()
  .describe("chat template (Jinja) in place of the model's and of its adapters' own");

/** What a model is to answer instead of the next token. */
export const taskShape = {
  task: z
    .enum(TASKS)
    .optional()
    .describe(
      'what is told of rows instead of the next token, by a head that trains along, or by embeddings (default: what the model is for)',
    ),
  labels: z
    .array(z.string().regex(/^[^,]+$/))
    .optional()
    .describe(
      "a classifier's labels in the order of their numbers (default: the model's own, or those of the rows)",
    ),
  pooling: z
    .enum(POOLINGS)
    .optional()
    .describe(
      "what of a text its embedding is made of (default: what the model's modules.json says, or an encoder's mean and a decoder's last token)",
    ),
  normalize: z
    .boolean()
    .optional()
    .describe("make embeddings of length 1 (default: what the model's modules.json says, or yes)"),
};

/** Options of every job that loads a model. */
export const engineShape = {
  quantize: quantizeOption,
  device: z.enum(devices).default('cpu').describe('what computes'),
  threads: z
    .int()
    .positive()
    .max(MAX_THREADS)
    .optional()
    .describe('threads of the CPU (default: one a physical core)'),
};

/** Options of every job that reads training rows. */
export const dataShape = {
  lossOn: z
    .enum(['completion', 'all'])
    .default('completion')
    .describe("what is learned: the completion or the assistant's turns, or everything"),
  addEos: z
    .boolean()
    .default(false)
    .describe("end the assistant's turns with EOS where the chat template writes no end token"),
  maxLength: z
    .int()
    .min(2)
    .optional()
    .describe("longest example in tokens, longer ones are cut (default: 1024 or the model's limit)"),
};

const baseShape = {
  model: text
    .meta({ valueName: 'model' })
    .describe('model folder, .gguf file, hub id, or "demo" for the one that comes along'),
  data: rowFiles
    .meta({ valueName: 'file' })
    .describe(
      'training rows: JSONL, JSON, CSV, TSV or Parquet of messages, conversations, prompt and completion, instruction and output, or text; of prompt, chosen and rejected for dpo and orpo',
    ),
  evalData: rowFiles
    .meta({ valueName: 'file' })
    .optional()
    .describe('held-out rows; with them the best evaluation is what is kept'),
  evalSplit: z
    .number()
    .positive()
    .refine(
      (size) => size < 1 || Number.isInteger(size),
      'expected a share below 1 or a whole number of rows',
    )
    .optional()
    .describe('without those: how many of the training rows to hold out, as a number or a share below 1'),
  output: text
    .meta({ valueName: 'folder' })
    .describe('folder for the adapter, and while training for checkpoints and metrics'),
  tensorboard: z
    .boolean()
    .default(false)
    .describe('also write the metrics as a TensorBoard event file into the output'),
  method: z.enum(methodNames).default('lora').describe('what is trained'),
  adapter: text
    .meta({ valueName: 'adapter' })
    .optional()
    .describe(
      'an adapter to train further: a folder, a .gguf file or a hub id; it brings its method and options',
    ),
  ...taskShape,
  chatTemplate: chatTemplateOption,
  ignoreMemory: z
    .boolean()
    .default(false)
    .describe('begin also where the forecast says that the memory is not enough'),
  ...dataShape,
  ...engineShape,
};

/**
 * Options of all methods by their names in TypeScript. Two methods that share a name share its meaning; where their
 * defaults differ, that of the table's first is told.
 */
export const methodShape: z.ZodRawShape = shapeOfMethods();

function shapeOfMethods(): z.ZodRawShape {
  const shape: Record<string, z.core.$ZodType> = {};
  for (const { options } of Object.values(methods)) {
    for (const [key, schema] of Object.entries(options.shape)) shape[camelCase(key)] ??= schema;
  }
  const rank = shape.r as z.ZodType;
  shape.r = z
    .union([withoutDefault(rank), z.literal('auto')], {
      error: () => 'expected a whole number above 0, or auto',
    })
    .default(8)
    .describe(`${rank.description}; auto: chosen layer by layer, within --rank-budget`);
  return shape;
}

/** Everything that a training job can be told, in groups, as the help shows it. */
export const jobGroups: Record<string, z.ZodRawShape> = {
  Job: baseShape,
  Objective: objectiveShape,
  Method: methodShape,
  Training: trainSchema.shape,
  Samples: sampleShape,
  Ranks: { ...rankShape, ...evaShape },
};

/** The same as one flat object in which nothing is required and nothing has a default: flags, config files. */
export const jobSchema: z.ZodObject = z.strictObject(
  Object.fromEntries(
    Object.values(jobGroups).flatMap((shape) =>
      Object.entries(shape).map(([key, schema]) => [key, withoutDefault(schema as z.ZodType).optional()]),
    ),
  ),
);

function withoutDefault(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault || schema instanceof z.ZodOptional
    ? withoutDefault(schema.unwrap() as z.ZodType)
    : schema;
}

/** A training job with all that it needs. */
export interface Job extends Omit<z.output<typeof baseSchema>, 'data' | 'evalData'> {
  /** Files of rows, in the order in which they are read. */
  data: string[];
  evalData?: string[];
  /** What was asked for; absent: what the model is for. */
  objective?: AskedObjective;
  /** The method's configuration, parsed: every key, camelCase. */
  methodOptions: object;
  /** Of a job with an adapter: what was given of its method, which decides otherwise; then methodOptions are empty. */
  further?: FurtherTraining;
  train: TrainOptions;
  samples: SampleOptions;
  /** How to choose the ranks; absent where they are given. */
  ranks?: RankSettings;
  /** How to look at the data for where the method starts; absent where it starts without them. */
  eva?: EvaSettings;
}

const baseSchema = z.object(baseShape);

/**
 * A job from the options that were given (camelCase, checked one by one by jobSchema). Throws UserError where
 * one is missing or is not for the chosen method.
 */
export function resolveJob(given: Readonly<Record<string, unknown>>): Job {
  for (const name of ['model', 'data', 'output']) {
    if (given[name] === undefined) throw new UserError(`the option "${name}" is missing`);
  }
  const { data, evalData, ...others } = baseSchema.parse(given);
  taskAsked(others);
  const objective = parseObjective('the objective', given);
  const base = {
    ...others,
    ...(objective && { objective }),
    data: [data].flat(),
    evalData: evalData === undefined ? undefined : [evalData].flat(),
  };
  if (base.adapter !== undefined) return resolveFurther(base, given);
  const method = methodNamed(base.method);
  const own = new Set(Object.keys(method.options.shape).map(camelCase));
  const auto = given.r === 'auto';
  if (auto) requireRanks(method);
  const foreign = Object.keys(methodShape).find((name) => given[name] !== undefined && !own.has(name));
  if (foreign) throw new UserError(`the option "${foreign}" is not for method ${method.name}`);
  const pick = (names: Iterable<string>) => pickFrom(given, names);
  const byEva = given.initLoraWeights === 'eva';
  if (auto && byEva)
    throw new UserError('init_lora_weights "eva" chooses the ranks itself: give r as a number');
  const strayOf = (shape: z.ZodRawShape) => Object.keys(shape).find((name) => given[name] !== undefined);
  const [strayRank, strayEva] = [
    auto ? undefined : strayOf(rankShape),
    byEva ? undefined : strayOf(evaShape),
  ];
  if (strayRank) throw new UserError(`the option "${strayRank}" is for r "auto" only`);
  if (strayEva) throw new UserError(`the option "${strayEva}" is for initLoraWeights "eva" only`);
  const ranks = auto ? parseRankOptions(method, pick(Object.keys(rankShape))) : undefined;
  const eva = byEva ? parseEvaOptions(pick(Object.keys(evaShape))) : undefined;
  if (auto) own.delete('r');
  return {
    ...base,
    ...(ranks && { ranks }),
    ...(eva && { eva }),
    methodOptions: method.parse(`${method.name} configuration`, pick(own)) as object,
    ...trainingOf(given),
  };
}

/** A job that trains an adapter further. */
function resolveFurther(
  base: Omit<Job, 'methodOptions' | 'train' | 'samples'>,
  given: Readonly<Record<string, unknown>>,
): Job {
  const stray = Object.keys({ ...rankShape, ...evaShape }).find((name) => given[name] !== undefined);
  if (stray)
    throw new UserError(`the option "${stray}" is for a new adapter, not for one that is trained further`);
  if (given.r === 'auto') {
    throw new UserError('r "auto" is for a new adapter: one that is trained further has its ranks');
  }
  const config = pickFrom(given, Object.keys(methodShape));
  const method = given.method === undefined ? undefined : base.method;
  return { ...base, methodOptions: {}, further: { method, config }, ...trainingOf(given) };
}

function trainingOf(given: Readonly<Record<string, unknown>>): Pick<Job, 'train' | 'samples'> {
  return {
    train: trainSchema.parse(pickFrom(given, Object.keys(trainSchema.shape))),
    samples: sampleSchema.parse(pickFrom(given, Object.keys(sampleShape))),
  };
}

function pickFrom(
  given: Readonly<Record<string, unknown>>,
  names: Iterable<string>,
): Record<string, unknown> {
  return Object.fromEntries(
    [...names].flatMap((name) => (given[name] === undefined ? [] : [[name, given[name]]])),
  );
}

/** What a job tells of its data and training, as Model.train takes it. */
export function trainOptionsOf(job: Job) {
  const { data, evalData, evalSplit, lossOn, addEos, maxLength, ignoreMemory, train } = job;
  return {
    ...train,
    ...flatObjective(job.objective),
    data,
    evalData,
    evalSplit,
    lossOn,
    addEos,
    maxLength,
    ignoreMemory,
  };
}

/** The job as flat options, with every default written out: resolveJob's inverse. */
export function flattenJob({
  methodOptions,
  train,
  samples,
  ranks,
  eva,
  further,
  objective,
  ...others
}: Job): Record<string, unknown> {
  const base = { ...others, ...flatObjective(objective) };
  if (further) return { ...base, ...further.config, ...train, ...samples };
  return { ...base, ...methodOptions, ...(ranks && { ...ranks, r: 'auto' }), ...eva, ...train, ...samples };
}
