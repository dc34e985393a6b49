/** What a run of training takes in memory, told from its graphs before anything is computed. */
import { sizeOf } from '../base/tensor.js';
import { arranged } from '../graph/emit.js';
import { bytesOf, memoryOf, runOrder, type Sizes } from '../graph/memory.js';
import type { WeightAttrs } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type Adapter, emptyState } from '../methods/adapter.js';
import { trainableCount } from '../methods/counts.js';
import type { Trainable } from '../methods/method.js';
import { virtualCount } from '../methods/virtualTokens.js';
import type { BaseModel } from '../models/base.js';
import { evaluationGraph, type TrainStepOptions, trainGraph } from './step.js';

/** Bytes of a run, and of what. */
export interface TrainingMemory {
  /** Node, the engine, the tokenizer, the loaded graph: measured. */
  process: number;
  /** The base's weights that a step reads, as they lie in their files, which are mapped. */
  weights: number;
  /** Values, gradients and the optimizer's two moments of what trains; values alone of what does not. */
  trained: number;
  /** Masks, rotary tables, tokens. */
  feeds: number;
  /** What a step computes and keeps for its way back, and what lies idle between in the engine's arena. */
  activations: number;
  /** The same of an evaluation, whose arena is its own. */
  evaluation: number;
  total: number;
}

/** The largest micro-batch of a run. */
export interface MicroSize {
  rows: number;
  /** Positions of a row. */
  length: number;
  /** Rows that an example takes. Default 1. */
  rowsOfExample?: number;
}

/** The same for so many tokens at once: as many of the longest rows as there is room for, and one where there is none. */
export function largestMicroBatch(
  length: number,
  microBatchTokens: number,
  examplesOfStep: number,
  rowsOfExample = 1,
): MicroSize {
  const examples = Math.floor(microBatchTokens / (rowsOfExample * length));
  const rows = rowsOfExample * Math.max(1, Math.min(examplesOfStep, examples));
  return { rows, length, ...(rowsOfExample > 1 && { rowsOfExample }) };
}

/** Node with the engine and its thread; of each node of a loaded graph, of each token of the tokenizer: fitted to bench/plan.mjs. */
const PROCESS_BYTES = 180e6;
const NODE_BYTES = 5e3;
const TOKEN_BYTES = 1e3;
const FLOAT = 4;
/** Copies of what trains: values, gradients, two moments, and the gradients as the engine gives them out. */
const COPIES = 5;

export interface TrainingMemoryInput
  extends Pick<TrainStepOptions, 'objective' | 'packed' | 'gradientCheckpointing'> {
  micro: MicroSize;
  /** Of an evaluation, where there is one. */
  evaluated?: MicroSize;
}

/**
 * Forecast of the most memory that training takes on the CPU. `model` need not be on the disk: its shapes and how its
 * tensors are stored are all that is looked at.
 */
export function trainingMemory(
  model: BaseModel,
  { method, config, trainables, vocabSize }: Pick<Adapter, 'method' | 'config' | 'trainables' | 'vocabSize'>,
  { micro, evaluated, ...options }: TrainingMemoryInput,
): TrainingMemory {
  const adapter: Adapter = { method, config, trainables, vocabSize, values: new Map(), state: emptyState() };
  const own = new Set(trainables.map(({ name }) => name));
  const virtual = virtualCount(adapter);
  const trained = trainGraph(model, adapter, options);
  const train = graphMemory(Object.values(trained.outputs), sizesOf(micro, virtual), own);
  const evaluation = evaluated
    ? graphMemory(evaluationGraph(model, adapter, options.objective), sizesOf(evaluated, virtual), own)
    : { arena: 0, nodes: 0 };
  const count = trainableCount(trainables);
  const parts = {
    process:
      PROCESS_BYTES + NODE_BYTES * (train.nodes + evaluation.nodes) + TOKEN_BYTES * model.config.vocabSize,
    weights: train.weights,
    trained: FLOAT * (COPIES * count + frozenCount(trainables)),
    feeds: train.feeds,
    activations: train.arena,
    evaluation: evaluation.arena,
  };
  return { ...parts, total: Object.values(parts).reduce((n, bytes) => n + bytes, 0) };
}

function frozenCount(trainables: readonly Trainable[]): number {
  return trainables.reduce((n, t) => n + (t.requiresGrad === false ? sizeOf(t.shape) : 0), 0);
}

/** Every position is a target: the most that there can be. */
function sizesOf({ rows, length, rowsOfExample = 1 }: MicroSize, virtual: number): Sizes {
  const seq = length + virtual;
  return {
    batch: rows,
    examples: rows / rowsOfExample,
    candidates: rows,
    seq,
    targets: rows * length,
    tokens: rows * length,
    table: Math.max(64, 2 ** Math.ceil(Math.log2(seq))),
  };
}

/** Of a graph: its arena, the weights that it reads, and its feeds but for those named `own`. */
function graphMemory(outputs: readonly Tensor[], sizes: Sizes, own: ReadonlySet<string>) {
  const { roots, nodes } = arranged(outputs);
  const weights = new Map<string, number>();
  let feeds = 0;
  for (const { op, attrs, outputs } of nodes) {
    if (op === 'weight') weights.set((attrs as WeightAttrs).name, (attrs as WeightAttrs).length);
    if (op === 'input' && !own.has((attrs as { name: string }).name)) feeds += bytesOf(outputs[0], sizes);
  }
  const { arena } = memoryOf(runOrder(nodes, roots), roots, sizes);
  return {
    arena,
    feeds,
    nodes: nodes.length,
    weights: [...weights.values()].reduce((n, bytes) => n + bytes, 0),
  };
}
