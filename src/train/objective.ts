/** What training is for. The loop, the optimizer and the graph of a step know an objective by this alone. */
import type { F32Tensor } from '../base/tensor.js';
import type { WorkOptions } from '../base/work.js';
import type { Tokenizer } from '../formats/tokenizer.js';
import type { Runtime, SessionOptions } from '../graph/runtime/session.js';
import type { Tensor } from '../graph/tensor.js';
import type { Adapter } from '../methods/adapter.js';
import type { Network } from '../models/architecture.js';
import type { BaseModel } from '../models/base.js';
import type { Sites } from '../models/model.js';
import type { Batching, MicroBatch } from './data/batches.js';
import type { Encoding, ExampleCache } from './data/cache.js';
import type { EncodeRowsOptions } from './data/encode.js';
import type { Content, Forms } from './data/form.js';
import type { Row } from './data/row.js';
import type { ExampleSource } from './data/source.js';

/** What the loss of a graph is built of. */
export interface LossContext {
  network: Network;
  sites: Sites;
  /** Hidden states of all positions, [batch·seq, hidden]. */
  hidden: Tensor;
}

/** The loss of each thing that is learned, and what it was made of. */
export interface LossParts {
  /** [n], in nats; their weighted sum is what a step lowers. */
  losses: Tensor;
  /** What evaluation measures by, and tests look at: logits [n, …]. */
  logits: Tensor;
}

/** What is told of an evaluation beside the loss, and of steps where their objective measures them. Each has some of these. */
export interface Metrics {
  /** e to the loss: of next tokens. */
  perplexity?: number;
  /** The share of classes told right, or of texts whose match is the nearest of their batch. */
  accuracy?: number;
  /** The mean of one over the place of a text's match among those of its batch (mean reciprocal rank). */
  mrr?: number;
  /** Of the second of two classes, and the mean of all. */
  f1?: number;
  macroF1?: number;
  /** Matthews' correlation of classes. */
  matthews?: number;
  /** Of numbers told with those that are right. */
  pearson?: number;
  spearman?: number;
  /** Of whole entities, of labels as B-LOC. */
  entityF1?: number;
  entityPrecision?: number;
  entityRecall?: number;
  /** Of preferences, as TRL has them: means of the implicit rewards of the chosen answers, of the rejected, of what lies between. */
  rewardsChosen?: number;
  rewardsRejected?: number;
  rewardsMargins?: number;
  /** The share of pairs whose chosen answer has the higher one. */
  rewardsAccuracies?: number;
}

/** How one is told. */
export interface MetricCard {
  title: string;
  digits: number;
  /** Its tag for TensorBoard, where other tools have another than its name. */
  tag?: string;
  /** In a line of progress; absent: not there. */
  brief?: string;
}

export const METRICS: Readonly<Record<keyof Metrics, MetricCard>> = {
  perplexity: { title: 'perplexity', digits: 3 },
  accuracy: { title: 'accuracy', digits: 4, brief: 'accuracy' },
  mrr: { title: 'MRR', digits: 4 },
  f1: { title: 'F1', digits: 4 },
  macroF1: { title: 'macro F1', digits: 4 },
  matthews: { title: 'Matthews', digits: 4 },
  pearson: { title: 'Pearson', digits: 4 },
  spearman: { title: 'Spearman', digits: 4 },
  entityF1: { title: 'entity F1', digits: 4 },
  entityPrecision: { title: 'precision', digits: 4 },
  entityRecall: { title: 'recall', digits: 4 },
  rewardsChosen: { title: 'reward of chosen', digits: 4, tag: 'rewards/chosen' },
  rewardsRejected: { title: 'reward of rejected', digits: 4, tag: 'rewards/rejected' },
  rewardsMargins: { title: 'reward margin', digits: 4, tag: 'rewards/margins', brief: 'margin' },
  rewardsAccuracies: { title: 'reward accuracy', digits: 4, tag: 'rewards/accuracies', brief: 'accuracy' },
};

export const METRIC_NAMES = Object.keys(METRICS) as (keyof Metrics)[];

/** Those of them that something holds. */
export function metricsIn(found: Metrics): Metrics {
  const known = METRIC_NAMES.filter((name) => found[name] !== undefined);
  return Object.fromEntries(known.map((name) => [name, found[name]]));
}

/** Collects over the micro-batches of an evaluation, or of a step. */
export interface Measure {
  /** Absent: the losses are enough, and no logits leave the engine. */
  add?(micro: MicroBatch, logits: F32Tensor): void;
  /** `loss` is the mean over all of them. */
  result(loss: number): Metrics;
}

/** How a data set becomes the examples of an objective. */
export interface Reading<E = unknown, C extends Content = Content> {
  /** Of what forms its rows are. */
  readonly forms: Forms<C>;
  /** Encodes checked rows. Throws UserError naming the row where one cannot be, and the source where none gives an example. */
  encode(rows: AsyncIterable<Row<C>>, tokenizer: Tokenizer, options: EncodeRowsOptions): Encoding<E>;
  /** Where large data sets are kept encoded, in files of `folder`. Absent: in memory. */
  cache?(folder: string): ExampleCache<E>;
}

/** What a model tells of a row whose answer is not known. */
export type Answer =
  /** The likeliest class, and the probability of each. */
  | { label: string; probability: number; probabilities: Record<string, number> }
  | { value: number }
  /** The likeliest class of each word that is within the length. */
  | { labels: { word: string; label: string; probability: number }[] }
  /** A vector for the text, [width]. */
  | { embedding: Float32Array };

/** How rows without an answer are read, and what comes out for each of their examples. */
export interface Answers<E = unknown, C extends Content = Content> {
  readonly reading: Reading<E, C>;
  /** `logits` are those of the examples in one micro-batch. */
  of(examples: readonly E[], logits: F32Tensor): Answer[];
}

/** What a preparation computes with. */
export interface PreparationContext extends WorkOptions {
  runtime: Runtime;
  model: BaseModel;
  /** What the model is before anything is trained: an adapter that came trained, else none. */
  adapter: Adapter | undefined;
  session: SessionOptions;
  microBatchTokens: number;
}

/** What an objective has to know of its examples that does not change as the model trains. */
export interface Preparation<E> {
  /** Values of each example of some sets, [examples, …], one tensor a set. Tells how many examples are done. */
  compute(sets: readonly ExampleSource<E>[], context: PreparationContext): Promise<F32Tensor[]>;
  /** The examples of a set with their values. */
  joined(examples: ExampleSource<E>, values: F32Tensor): ExampleSource<E>;
}

/**
 * What training is for: the rows that it reads, how their examples become rows of a graph, the loss of these, and what
 * evaluation tells.
 */
export interface Objective<E = unknown, C extends Content = Content> {
  readonly name: string;
  /** What there is one loss of, in whose units. */
  readonly units: { readonly target: string; readonly loss: string };
  readonly reading: Reading<E, C>;
  readonly batching: Batching<E>;
  /**
   * Builds the loss. Inputs of the graph are fed by their names out of a micro-batch: `rows` its targetRows, `targetIds`,
   * and its own `feeds`.
   */
  loss(context: LossContext): LossParts;
  /** Done once, before training and before an evaluation. */
  readonly preparation?: Preparation<E>;
  /** What an evaluation tells beside its loss. */
  measure(): Measure;
  /** How it answers rows; absent where its answer is a text. */
  readonly answers?: Answers<E, C>;
  /** Each step tells it too: its logits are few enough to leave the engine every time. */
  readonly measuresSteps?: boolean;
  /** Its learning rate where none is given, as a share of what the method takes for next tokens. Default 1. */
  readonly learningRateFactor?: number;
  /** The tokens of an example that a generation starts from, to see what was learned. Absent: nothing is generated. */
  beginning?(example: E): Int32Array;
}
