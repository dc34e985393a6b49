import { batchesOf } from './data/batches.js';
import type { Example } from './data/encode.js';
import type { LossStep } from './step.js';

/** Mean loss in nats over all supervised tokens of a set, and how many those are. */
export async function evaluate(
  lossStep: LossStep,
  examples: readonly Example[],
  microBatchTokens: number,
): Promise<{ loss: number; tokens: number }> {
  let total = 0;
  let tokens = 0;
  const batchSize = examples.length;
  for (const batch of batchesOf(examples, {
    batchSize,
    seed: 0,
    epoch: 0,
    microBatchTokens,
    groupByLength: false,
  })) {
    for (const micro of batch.micro) total += (await lossStep.run(micro)).lossSum;
    tokens += batch.supervised;
  }
  return { loss: total / tokens, tokens };
}
