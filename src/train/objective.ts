/** What training is for. The loop, the optimizer and the graph of a step know an objective by this alone. */
import type { F32Tensor } from '../base/tensor.js';
import type { Tensor } from '../graph/tensor.js';
import type { Network } from '../models/architecture.js';
import type { Sites } from '../models/model.js';
import type { Batching, MicroBatch } from './data/batches.js';

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
}

/** How each of them is told. */
export const METRICS: Readonly<Record<keyof Metrics, { title: string; digits: number }>> = {
  perplexity: { title: 'perplexity', digits: 3 },
};

/** Collects over the micro-batches of an evaluation. */
export interface Measure {
  /** Absent: the losses are enough, and no logits leave the engine. */
  add?(micro: MicroBatch, logits: F32Tensor): void;
  /** `loss` is the mean over all of them. */
  result(loss: number): Metrics;
}

/** What training is for: how examples become rows of a graph, the loss of these, and what evaluation tells. */
export interface Objective<E = unknown> {
  readonly name: string;
  readonly batching: Batching<E>;
  /**
   * Builds the loss. Inputs of the graph are fed by their names out of a micro-batch: `rows` its targetRows, `targetIds`,
   * and its own `feeds`.
   */
  loss(context: LossContext): LossParts;
  /** What an evaluation tells beside its loss. */
  measure(): Measure;
}
