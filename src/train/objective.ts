/** What training is for. The loop, the optimizer and the graph of a step know an objective by this alone. */
import type { F32Tensor } from '../base/tensor.js';
import type { Tokenizer } from '../formats/tokenizer.js';
import type { Tensor } from '../graph/tensor.js';
import type { Network } from '../models/architecture.js';
import type { Sites } from '../models/model.js';
import type { Batching, MicroBatch } from './data/batches.js';
import type { Encoding, ExampleCache } from './data/cache.js';
import type { EncodeRowsOptions } from './data/encode.js';
import type { Content, Forms } from './data/form.js';
import type { Row } from './data/row.js';

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

/** What is told of an evaluation beside the loss. Each objective has some of these. */
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
}

/** How each of them is told. */
export const METRICS: Readonly<Record<keyof Metrics, { title: string; digits: number }>> = {
  perplexity: { title: 'perplexity', digits: 3 },
  accuracy: { title: 'accuracy', digits: 4 },
  mrr: { title: 'MRR', digits: 4 },
  f1: { title: 'F1', digits: 4 },
  macroF1: { title: 'macro F1', digits: 4 },
  matthews: { title: 'Matthews', digits: 4 },
  pearson: { title: 'Pearson', digits: 4 },
  spearman: { title: 'Spearman', digits: 4 },
  entityF1: { title: 'entity F1', digits: 4 },
  entityPrecision: { title: 'precision', digits: 4 },
  entityRecall: { title: 'recall', digits: 4 },
};

/** Those of them that something holds. */
export function metricsIn(found: Metrics): Metrics {
  const known = (Object.keys(METRICS) as (keyof Metrics)[]).filter((name) => found[name] !== undefined);
  return Object.fromEntries(known.map((name) => [name, found[name]]));
}

/** Collects over the micro-batches of an evaluation. */
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
  /** What an evaluation tells beside its loss. */
  measure(): Measure;
  /** How it answers rows; absent where its answer is a text. */
  readonly answers?: Answers<E, C>;
  /** The tokens of an example that a generation starts from, to see what was learned. Absent: nothing is generated. */
  beginning?(example: E): Int32Array;
}
