/** Whether a job fits into the machine's memory, and what would make it fit. */
import { freemem, totalmem } from 'node:os';
import { UserError } from '../base/errors.js';
import type { StoredDType } from '../base/tensor.js';
import { bytesText } from '../base/text.js';
import { weightDType } from '../formats/safetensors.js';
import type { Adapter } from '../methods/adapter.js';
import { leavesModel } from '../methods/counts.js';
import type { BaseModel } from '../models/base.js';
import { imaginedModel } from '../models/imagined.js';
import type { Batching } from '../train/data/batches.js';
import type { ExampleSource } from '../train/data/source.js';
import { EVALUATED_TOGETHER } from '../train/evaluate.js';
import { largestMicroBatch, type MicroSize, trainingMemory } from '../train/memory.js';
import type { Objective } from '../train/objective.js';
import type { TrainOptions } from '../train/options.js';

/** A forecast may be too high by this factor before a job is refused: none that fits should be. */
const MARGIN = 1.15;
/** Rows are not advised to be shorter than this, nor micro-batches smaller. */
const SHORTEST = 64;
/** Nor are batches whose examples are compared with one another to have fewer of them. */
const FEWEST = 4;

/** A job as its memory depends on it. */
export interface MemoryJob {
  base: BaseModel;
  adapter: Pick<Adapter, 'method' | 'config' | 'trainables' | 'vocabSize'>;
  objective: Objective;
  hyper: Pick<
    TrainOptions,
    | 'batchSize'
    | 'gradientAccumulationSteps'
    | 'microBatchTokens'
    | 'gradientCheckpointing'
    | 'checkpointedLayers'
    | 'packing'
  >;
  /** Tokens of the longest example, and of the longest that it is evaluated on. */
  longest: number;
  evaluated?: number;
  /** Rows that an example takes, as `rowsOfExamples` has it; default: what the objective says. */
  rowsOfExample?: number;
}

/**
 * Bytes that a process may take: what is free or can be given back, within the limit of a container. Where only Linux tells
 * what can be given back, all of the machine's memory counts.
 */
export function availableMemory(): number {
  const limit = process.constrainedMemory() || totalmem();
  const free = process.platform === 'linux' ? freemem() + process.memoryUsage.rss() : totalmem();
  return Math.min(limit, free, totalmem());
}

/** Tokens of the longest of some examples, as of one that predicts next tokens: one more than it has positions. */
export function longestOf<E>(
  examples: ExampleSource<E>,
  { lengthOf }: Pick<Batching<E>, 'lengthOf'>,
): number {
  let longest = 2;
  if (examples.lengths) {
    for (let i = 0; i < examples.length; i++) longest = Math.max(longest, examples.lengths[i]);
  } else for (const example of examples) longest = Math.max(longest, lengthOf(example) + 1);
  return longest;
}

/** Rows that each of some examples takes: in one set all take as many. */
export function rowsOfExamples<E>(
  examples: ExampleSource<E>,
  { rows, rowsOf }: Pick<Batching<E>, 'rows' | 'rowsOf'>,
): number {
  return rowsOf && examples.length > 0 ? rowsOf(examples.at(0)!) : rows;
}

/** The most bytes that training takes, told before it begins. */
export function forecastMemory(job: MemoryJob): number {
  return forecast(job, {});
}

/**
 * Throws UserError where training would take far more memory than there is, naming the options with which it would fit.
 */
export function refuseBeyondMemory(job: MemoryJob, available: number): void {
  const needed = forecastMemory(job);
  if (needed <= MARGIN * available) return;
  const fits = (change: Change) => forecast(job, change) <= available;
  const found = adviceOf(job, fits);
  const one = (change: Change) => `${flagsOf(change)} needs ${bytesText(forecast(job, change))}`;
  const advice =
    found.length > 0
      ? found.map(one).join(', ')
      : `${one(everything(job))}, which is too much too: take a smaller model`;
  throw new UserError(
    `training needs about ${bytesText(needed)} of memory, and there are ${bytesText(available)}: ${advice}; --ignore-memory goes on regardless`,
  );
}

/** What to change of a job. */
interface Change {
  gradientCheckpointing?: true;
  microBatchTokens?: number;
  /** Where batches stay whole. */
  batchSize?: number;
  maxLength?: number;
  quantize?: 'nf4';
}

/** Each change that is enough by itself, or else the smallest choice of several. */
function adviceOf(job: MemoryJob, fits: (change: Change) => boolean): Change[] {
  const { gradientCheckpointing, microBatchTokens, batchSize, quantize } = everything(job);
  const checkpointing: Change[] = gradientCheckpointing ? [{ gradientCheckpointing }] : [];
  const alone = halves(job.hyper.microBatchTokens, microBatchTokens)
    .map((tokens) => ({ microBatchTokens: tokens }))
    .find(fits);
  const fewer = halves(job.hyper.batchSize, batchSize)
    .map((size) => ({ batchSize: size }))
    .find(fits);
  // Rows that lose more than three quarters are another job.
  const shorter = halves(job.longest, Math.max(SHORTEST, job.longest / 4))
    .map((maxLength) => ({ maxLength }))
    .find(fits);
  const singles: Change[] = [
    ...(alone ? [alone] : []),
    ...(fewer ? [fewer] : []),
    ...checkpointing.filter(fits),
    ...(quantize ? [{ quantize }].filter(fits) : []),
    ...(shorter ? [shorter] : []),
  ];
  if (singles.length > 0) return singles;
  const together: Change = {
    ...(gradientCheckpointing && { gradientCheckpointing }),
    ...(microBatchTokens !== undefined && { microBatchTokens }),
    ...(batchSize !== undefined && { batchSize }),
  };
  const withBase: Change = { ...together, ...(quantize && { quantize }) };
  const several: Change[] = [together, withBase];
  for (const maxLength of halves(job.longest, SHORTEST)) {
    several.push({
      ...withBase,
      maxLength,
      ...(batchSize === undefined && {
        microBatchTokens: Math.min(microBatchTokens ?? maxLength, maxLength),
      }),
    });
  }
  return several.filter(fits).slice(0, 1);
}

/** All that may be changed, as far as it goes. */
function everything({ base, adapter, objective, hyper, longest }: MemoryJob): Change {
  const smallest = SHORTEST * Math.ceil((longest - 1) / SHORTEST);
  const { whole } = objective.batching;
  return {
    ...(!hyper.gradientCheckpointing && { gradientCheckpointing: true as const }),
    ...(!whole && smallest < hyper.microBatchTokens && { microBatchTokens: smallest }),
    ...(whole && hyper.batchSize > FEWEST && { batchSize: FEWEST }),
    ...(base.quantized.size === 0 && !leavesModel(adapter.method) && { quantize: 'nf4' as const }),
  };
}

/** Halves of a number, down to a smallest one. */
function halves(from: number, smallest = from): number[] {
  const found: number[] = [];
  for (let n = from / 2; n >= smallest; n /= 2) found.push(Math.floor(n));
  return found;
}

function flagsOf(change: Change): string {
  const { gradientCheckpointing, microBatchTokens, batchSize, maxLength, quantize } = change;
  return [
    batchSize !== undefined && `--batch-size ${batchSize}`,
    microBatchTokens !== undefined && `--micro-batch-tokens ${microBatchTokens}`,
    gradientCheckpointing && '--gradient-checkpointing',
    quantize && `--quantize ${quantize}`,
    maxLength !== undefined && `--max-length ${maxLength}`,
  ]
    .filter((flag) => flag)
    .join(' ');
}

function forecast(job: MemoryJob, change: Change): number {
  const { base, adapter, objective, hyper, longest, evaluated } = job;
  const { batching } = objective;
  const tokens = change.microBatchTokens ?? hyper.microBatchTokens;
  const { batchSize = hyper.batchSize } = change;
  const rowsOfExample = job.rowsOfExample ?? batching.rows;
  const examples = batchSize * hyper.gradientAccumulationSteps;
  // Of an example all tokens but the last are computed.
  const micro = (of: number, together: number): MicroSize => {
    const length = Math.min(of, change.maxLength ?? of) - 1;
    if (batching.whole) return { rows: rowsOfExample * together, length, rowsOfExample };
    return largestMicroBatch(length, tokens, examples, rowsOfExample);
  };
  const checkpointed = hyper.gradientCheckpointing && (hyper.checkpointedLayers ?? true);
  const model = change.quantize ? imaginedModel(base.config, storedAs(base), change.quantize) : base;
  return trainingMemory(model, adapter, {
    objective,
    micro: micro(longest, batchSize),
    ...(evaluated !== undefined && { evaluated: micro(evaluated, EVALUATED_TOGETHER) }),
    packed: hyper.packing,
    gradientCheckpointing: change.gradientCheckpointing ?? checkpointed,
  }).total;
}

/** The element type of a base's first matrix. */
export function storedAs({ checkpoint }: BaseModel): StoredDType {
  const stored = weightDType([...checkpoint.tensors.values()][0].dtype);
  return stored === 'float16' || stored === 'bfloat16' ? stored : 'float32';
}
