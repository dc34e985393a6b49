import type { Runtime } from '../graph/runtime/session.js';
import type { Adapter } from '../methods/adapter.js';
import type { BaseModel } from '../models/base.js';
import { batchesOf } from './data/batches.js';
import type { ExampleSource } from './data/source.js';
import type { Metrics, Objective } from './objective.js';
import { LossStep, type StepOptions } from './step.js';

/** Examples read at once. */
const BATCH_SIZE = 512;
/** Examples that are compared with one another, whatever training does: a loss among others is another one. */
export const EVALUATED_TOGETHER = 32;

/** What an evaluation found. */
export interface Evaluated extends Metrics {
  /** Mean over all targets. */
  loss: number;
  /** How many targets there are: tokens, rows, pairs. */
  tokens: number;
}

/** A compiled evaluation of an objective, bound to the values of an adapter. */
export class Evaluator<E> {
  private constructor(
    private readonly step: LossStep,
    private readonly objective: Objective<E>,
  ) {}

  static async create<E>(
    runtime: Runtime,
    model: BaseModel,
    adapter: Adapter | undefined,
    objective: Objective<E>,
    options: StepOptions = {},
  ): Promise<Evaluator<E>> {
    const logits = objective.measure().add !== undefined;
    return new Evaluator(
      await LossStep.create(runtime, model, adapter, { ...options, objective, logits }),
      objective,
    );
  }

  /**
   * The mean loss over all of a set, with what the objective measures. Throws UserError where it is not finite, and the
   * signal's reason once that aborts.
   */
  async run(examples: ExampleSource<E>, microBatchTokens: number, signal?: AbortSignal): Promise<Evaluated> {
    const measure = this.objective.measure();
    let [total, weight, tokens] = [0, 0, 0];
    const options = {
      batchSize: BATCH_SIZE,
      seed: 0,
      epoch: 0,
      microBatchTokens,
      wholeSize: EVALUATED_TOGETHER,
    };
    for (const batch of batchesOf(examples, this.objective.batching, options)) {
      for (const micro of batch.micro) {
        signal?.throwIfAborted();
        const { lossSum, logits } = await this.step.run(micro);
        total += lossSum;
        if (logits) measure.add?.(micro, logits);
      }
      if (!Number.isFinite(total)) throw await this.step.nonFinite();
      weight += batch.weight;
      tokens += batch.targets;
    }
    const loss = total / weight;
    return { loss, ...measure.result(loss), tokens };
  }

  close(): Promise<void> {
    return this.step.close();
  }
}
