/** What the reference of DPO says of each answer: computed once, so that no second model is held while training. */
import { f32 } from '../../base/tensor.js';
import { Turns } from '../../base/work.js';
import { type Batching, microBatchesOf } from '../data/batches.js';
import { type Pair, pairs } from '../data/pairs.js';
import type { ExampleSource } from '../data/source.js';
import type { LossContext, Preparation } from '../objective.js';
import { LossStep } from '../step.js';
import { answerLogps, marginOf } from './preferences.js';

/** Pairs whose micro-batches are made at once, out of rows of all lengths. */
const CHUNK = 256;

interface Numbered {
  pair: Pair;
  at: number;
}

export const referenceLogps: Preparation<Pair> = {
  async compute(sets, { runtime, model, adapter, session, microBatchTokens, onProgress, signal }) {
    const step = await LossStep.create(runtime, model, adapter, {
      ...session,
      objective: { loss: asLogits },
      logits: true,
    });
    const total = sets.reduce((sum, { length }) => sum + length, 0);
    const turns = new Turns(signal);
    let done = 0;
    try {
      const found = [];
      for (const examples of sets) {
        const logps = new Float32Array(2 * examples.length);
        for (const { numbers, micro } of microBatches(examples, microBatchTokens)) {
          await turns.take();
          const { logits } = await step.run(micro);
          for (const [i, at] of numbers.entries()) {
            logps.set(logits!.data.subarray(2 * i, 2 * i + 2), 2 * at);
          }
          done += numbers.length;
          onProgress?.({ what: 'what the reference says of the answers', done, total, unit: 'pairs' });
        }
        if (!logps.every(Number.isFinite)) throw await step.nonFinite();
        found.push(f32(logps, [examples.length, 2]));
      }
      return found;
    } finally {
      await step.close();
    }
  },
  joined: (examples, { data }) => new WithReference(examples, data),
};

/** The log-probabilities themselves, in the place of logits. */
function asLogits(context: LossContext) {
  const logits = answerLogps(context);
  return { losses: marginOf(logits), logits };
}

/** Micro-batches of all pairs, and which ones are in each. */
function* microBatches(examples: ExampleSource<Pair>, budget: number) {
  for (let start = 0; start < examples.length; start += CHUNK) {
    const size = Math.min(CHUNK, examples.length - start);
    const chunk = Array.from({ length: size }, (_, i) => ({ pair: examples.at(start + i)!, at: start + i }));
    // Of each micro-batch, as they are made.
    const numbers: number[][] = [];
    const numbered: Batching<Numbered> = {
      rows: pairs.rows,
      lengthOf: ({ pair }) => pairs.lengthOf(pair),
      assembled(rows) {
        numbers.push(rows.flat().map(({ at }) => at));
        return pairs.assembled(rows.map((row) => row.map(({ pair }) => pair)));
      },
    };
    for (const [i, micro] of microBatchesOf(chunk, numbered, budget).entries()) {
      yield { numbers: numbers[i], micro };
    }
  }
}

/** Pairs with what the reference says of them. */
class WithReference implements ExampleSource<Pair> {
  readonly length: number;
  readonly lengths?: ArrayLike<number>;

  constructor(
    private readonly examples: ExampleSource<Pair>,
    private readonly logps: Float32Array,
  ) {
    this.length = examples.length;
    this.lengths = examples.lengths;
  }

  at(index: number): Pair | undefined {
    const pair = this.examples.at(index);
    return pair && { ...pair, reference: [this.logps[2 * index], this.logps[2 * index + 1]] };
  }

  *[Symbol.iterator](): Generator<Pair> {
    for (let i = 0; i < this.length; i++) yield this.at(i)!;
  }
}
