/** What the objectives over pairs of answers have in common. */
import * as z from 'zod';
import { f32 } from '../../base/tensor.js';
import {
  concat,
  constant,
  crossEntropy,
  gather,
  input,
  matmul,
  mul,
  neg,
  reshape,
} from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import { languageModel } from '../../models/architecture.js';
import { TokenCache } from '../data/cache.js';
import { encodePairs } from '../data/encodePairs.js';
import { PairCache } from '../data/pairCache.js';
import { PAIR_FORMS, type PairContent } from '../data/pairForms.js';
import { ANSWER_SHARES, ANSWER_TOKENS, type Pair, pairs } from '../data/pairs.js';
import type { LossContext, Measure, Objective } from '../objective.js';
import { beginningOf } from './causalLm.js';

/** An objective over pairs, but for its name and its loss. Its logits are the rewards of the two answers, [examples, 2]. */
export const overPairs: Omit<Objective<Pair, PairContent>, 'name' | 'units' | 'loss'> = {
  reading: {
    forms: PAIR_FORMS,
    encode: encodePairs,
    cache: (folder) => new PairCache(new TokenCache(folder)),
  },
  batching: pairs,
  measure: measureRewards,
  measuresSteps: true,
  learningRateFactor: 0.1,
  beginning: ({ chosen }) => beginningOf(chosen),
};

export const betaOption = z
  .number()
  .positive()
  .default(0.1)
  .describe('dpo: how close to the reference to stay (ipo: τ); orpo: weight λ of the odds ratio');

/** The log-probability of each answer given its prompt, in nats, chosen and rejected: [examples, 2]. */
export function answerLogps({ network, sites, hidden }: LossContext): Tensor {
  const model = languageModel(network, 'gives no answers that one could prefer');
  // The head sees the answers' rows alone.
  const logits = model.lmHead(sites, gather(hidden, input('rows', 'int32', ['targets'])));
  const losses = crossEntropy(logits, input('targetIds', 'int32', ['targets']));
  const column = reshape(losses, ['targets', 1]);
  const ofAnswer = (name: string) => matmul(input(name, 'float32', ['examples', 'targets']), column);
  return neg(concat(ANSWER_TOKENS.map(ofAnswer), 1));
}

/** Of sums over the tokens of each answer, the means: [examples, 2]. */
export function perToken(sums: Tensor): Tensor {
  return mul(sums, input(ANSWER_SHARES, 'float32', ['examples', 2]));
}

/** The first of two columns less the second: [examples]. */
export function marginOf(columns: Tensor): Tensor {
  return reshape(matmul(columns, constant(f32(Float32Array.of(1, -1), [2, 1]))), ['examples']);
}

/** TRL's metrics of rewards. */
function measureRewards(): Measure {
  let [count, chosen, rejected, won] = [0, 0, 0, 0];
  return {
    add(_micro, { data }) {
      for (let i = 0; i < data.length; i += 2) {
        count++;
        chosen += data[i];
        rejected += data[i + 1];
        if (data[i] > data[i + 1]) won++;
      }
    },
    result: () => ({
      rewardsChosen: chosen / count,
      rewardsRejected: rejected / count,
      rewardsMargins: (chosen - rejected) / count,
      rewardsAccuracies: won / count,
    }),
  };
}
