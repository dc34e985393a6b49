/** Direct preference optimization (Rafailov et al., arXiv:2305.18290), and IPO as a loss of it (Azar et al., arXiv:2310.12036). */
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { add, input, mul, neg, scalar, softplus, sub } from '../../graph/ops/index.js';
import type { PairContent } from '../data/pairForms.js';
import { type Pair, REFERENCE } from '../data/pairs.js';
import type { Objective } from '../objective.js';
import { answerLogps, betaOption, marginOf, overPairs, perToken } from './preferences.js';
import { referenceLogps } from './reference.js';
import type { ObjectiveSpec } from './spec.js';

const options = z.strictObject({
  beta: betaOption,
  lossType: z.enum(['sigmoid', 'ipo']).default('sigmoid').describe('dpo: the loss of a pair'),
  labelSmoothing: z
    .number()
    .min(0)
    .lt(0.5)
    .default(0)
    .describe('dpo: share of the pairs that are taken to be the wrong way round'),
});
type DpoOptions = z.output<typeof options>;

export const dpo = {
  name: 'dpo',
  options,
  make(given: DpoOptions) {
    if (given.lossType === 'ipo' && given.labelSmoothing > 0) {
      throw new UserError('the option "labelSmoothing" is for lossType "sigmoid" only');
    }
    return dpoWith(given);
  },
} satisfies ObjectiveSpec<DpoOptions>;

function dpoWith({ beta, lossType, labelSmoothing }: DpoOptions): Objective<Pair, PairContent> {
  return {
    ...overPairs,
    name: 'dpo',
    units: { target: 'token', loss: lossType === 'ipo' ? 'a pair' : 'nats a pair' },
    preparation: referenceLogps,
    loss(context) {
      const ratios = sub(answerLogps(context), input(REFERENCE, 'float32', ['examples', 2]));
      const rewards = mul(ratios, scalar(beta));
      if (lossType === 'ipo') {
        // Equation 17, of mean log-probabilities: the paper's sums would grow with the answers (as TRL has it).
        const distance = sub(marginOf(perToken(ratios)), scalar(1 / (2 * beta)));
        return { losses: mul(distance, distance), logits: rewards };
      }
      // Equation 7; with smoothing, that share of the pairs is taken to be the other way round.
      const margin = marginOf(rewards);
      const losses = softplus(neg(margin));
      if (labelSmoothing === 0) return { losses, logits: rewards };
      const swapped = softplus(margin);
      const smooth = add(mul(losses, scalar(1 - labelSmoothing)), mul(swapped, scalar(labelSmoothing)));
      return { losses: smooth, logits: rewards };
    },
  };
}
