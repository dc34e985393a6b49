/** Two answers to one prompt, of which one is preferred, as two rows of a graph. */
import { f32 } from '../../base/tensor.js';
import type { Batching } from './batches.js';
import type { Example } from './encode.js';
import { nextToken } from './nextToken.js';

/** A pair to learn from. In each sequence the answer's tokens are the targets. */
export interface Pair {
  chosen: Example;
  rejected: Example;
  /** Log-probabilities that the reference gives the two answers, in nats. */
  reference?: readonly [chosen: number, rejected: number];
  /** The row that it comes from. */
  line: number;
}

/** Graph input, float32 [examples, targets]: 1 where a target belongs to the example's answer. */
export const ANSWER_TOKENS = ['chosenTokens', 'rejectedTokens'] as const;
/** Graph input, float32 [examples, 2]: one over the tokens of each answer. */
export const ANSWER_SHARES = 'answerShares';
/** Graph input, float32 [examples, 2]: the reference's log-probabilities. */
export const REFERENCE = 'reference';

/** The sequences of a micro-batch are the chosen and the rejected of its first pair, those of the second, and so on. */
export const pairs: Batching<Pair> = {
  rows: 2,
  lengthOf: (pair) => Math.max(...answersOf(pair).map(nextToken.lengthOf)),
  assembled(rows) {
    const all = rows.flat();
    const answers = all.flatMap(answersOf);
    const micro = nextToken.assembled(answers.map((answer) => [answer]));
    const targets = micro.targetRows.length;
    const tokens = ANSWER_TOKENS.map(() =>
      f32(new Float32Array(all.length * targets), [all.length, targets]),
    );
    for (const [target, at] of micro.targetRows.entries()) {
      const answer = Math.floor(at / micro.length);
      tokens[answer % 2].data[Math.floor(answer / 2) * targets + target] = 1;
    }
    const shares = Float32Array.from(answers, ({ supervised }) => 1 / count(supervised));
    const reference = Float32Array.from(all.flatMap((pair) => pair.reference ?? []));
    return {
      ...micro,
      feeds: {
        [ANSWER_TOKENS[0]]: tokens[0],
        [ANSWER_TOKENS[1]]: tokens[1],
        [ANSWER_SHARES]: f32(shares, [all.length, 2]),
        ...(reference.length > 0 && { [REFERENCE]: f32(reference, [all.length, 2]) }),
      },
      weight: all.length,
    };
  },
};

function answersOf({ chosen, rejected }: Pair): [Example, Example] {
  return [chosen, rejected];
}

function count(supervised: Uint8Array): number {
  return supervised.reduce((sum, target) => sum + target, 0);
}
