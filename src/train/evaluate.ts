import { batchesOf } from './data/batches.js';
import type { ExampleSource } from './data/source.js';
import type { LossStep } from './step.js';

/** Examples read at once. */
const BATCH_SIZE = 512;

/**
 * Mean loss in nats over all supervised tokens of a set, and how many those are. Throws UserError where it is not finite, and
 * the signal's reason once that aborts.
 */
export async function evaluate(
  lossStep: LossStep,
  examples: ExampleSource,
  microBatchTokens: number,
  signal?: AbortSignal,
): Promise<{ loss: number; tokens: number }> {
  let total = 0;
  let tokens = 0;
  const options = { batchSize: BATCH_SIZE, seed: 0, epoch: 0, microBatchTokens };
  for (const batch of batchesOf(examples, options)) {
    for (const micro of batch.micro) {
      signal?.throwIfAborted();
      total += (await lossStep.run(micro)).lossSum;
    }
    if (!Number.isFinite(total)) throw await lossStep.nonFinite();
    tokens += batch.supervised;
  }
  return { loss: total / tokens, tokens };
}
