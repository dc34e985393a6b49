/** Odds ratio preference optimization (Hong et al., arXiv:2403.07691): no reference. */
import * as z from 'zod';
import { add, log, mul, neg, reshape, scalar, slice, softplus, sub, tanh } from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { PairContent } from '../data/pairForms.js';
import type { Pair } from '../data/pairs.js';
import type { Objective } from '../objective.js';
import { answerLogps, betaOption, marginOf, overPairs, perToken } from './preferences.js';
import type { ObjectiveSpec } from './spec.js';

const options = z.strictObject({ beta: betaOption });
type OrpoOptions = z.output<typeof options>;

/** Half of what float32 tells below 1. */
const SMALLEST = 2 ** -25;

export const orpo = { name: 'orpo', options, make: orpoWith } satisfies ObjectiveSpec<OrpoOptions>;

function orpoWith({ beta }: OrpoOptions): Objective<Pair, PairContent> {
  return {
    ...overPairs,
    name: 'orpo',
    units: { target: 'token', loss: 'nats a pair' },
    loss(context) {
      const logps = perToken(answerLogps(context));
      // Equation 6: what the chosen answer takes to learn, and by how much its odds (equation 4) are the better ones.
      const nll = neg(reshape(slice(logps, 1, 0, 1), ['examples']));
      const ratio = softplus(neg(marginOf(logOdds(logps))));
      return { losses: add(nll, mul(ratio, scalar(beta))), logits: mul(logps, scalar(beta)) };
    },
  };
}

/** log(p / (1 - p)) of log p. */
function logOdds(logp: Tensor): Tensor {
  // A probability of 1 has none, so it is taken to be a little less.
  const below = sub(logp, scalar(SMALLEST));
  // 1 - eˣ is tanh(-x/2)·(1 + eˣ), which is exact for small x too.
  const rest = add(log(tanh(mul(below, scalar(-0.5)))), softplus(below));
  return sub(below, rest);
}
