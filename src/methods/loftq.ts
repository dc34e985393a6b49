import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import { lostPart } from '../formats/quant/loftq.js';
import { checkRank } from '../models/rankLimit.js';
import { balancedStart, fromBaseOptions, startedTogether } from './fromBase.js';
import { snakeKeys } from './keys.js';
import { type LoraConfig, lora, scaleOf } from './lora.js';
import type { Method } from './method.js';

export interface LoftqConfig extends LoraConfig {
  /** How often the base is quantized, in turns with the low-rank part. */
  loftqIter: number;
}

const options = fromBaseOptions.extend({
  loftq_iter: z
    .int()
    .positive()
    .max(100)
    .default(1)
    .describe(
      'LoftQ: how often the base is quantized and A and B are fitted; above 1 the base is one of its own',
    ),
});

/**
 * LoftQ (Li et al., arXiv:2310.08659): LoRA over a quantized base that starts at what quantizing took from it, s·B·A = the
 * rank-r part of W − Q, so that step 0 is as near to the original as rank r allows. PEFT leaves the scale s out, which
 * is the same where α = r.
 */
export const loftq: Method<LoftqConfig> = {
  ...lora,
  name: 'loftq',
  card: {
    title: 'LoftQ',
    paper: 'arXiv:2310.08659',
    parameters: 'r·(in + out) a target',
    inference: 'two products of rank r a target',
    merges: true,
    peft: 'LORA',
  },
  // Not at the quantized base, but near the original.
  startsAtBase: false,
  options,
  fromPeft: undefined,
  parse(place, config) {
    const { loftq_iter, ...rest } = checkJson(place, snakeKeys(config), options);
    return { ...lora.parse(place, rest), loftqIter: loftq_iter };
  },
  alternation({ loftqIter: iterations, ...c }, model) {
    if (iterations === 1) return undefined;
    const part = '.lora_A';
    const matrices = lora.select(c, model).filter(({ name }) => name.endsWith(part));
    const ranks = matrices.map(({ name, shape }) => [name.slice(0, -part.length), shape[0]]);
    return { iterations, ranks: Object.fromEntries(ranks) };
  },
  select: (c, model) =>
    startedTogether('loftq', c, model, (site, r) => {
      const shape = [site.out, site.in] as const;
      checkRank('r', r, site);
      return async (weight, original) => {
        if (!original) {
          throw new UserError(
            'loftq starts at what quantizing took from the base: give the original as the model, and a base of nf4, int8 or int4',
          );
        }
        const lost = lostPart(await original(), await weight(), shape, r);
        const rank = lost.s.filter((value) => value > 0).length;
        if (rank === r) return balancedStart(lost, scaleOf(c, site));
        throw new UserError(
          rank === 0
            ? `the base holds ${site.name} as its original does, which leaves nothing for loftq to start at; take it out of the targets, or train lora`
            : `quantizing took from ${site.name} a matrix of rank ${rank} only; lower r ${r} to that`,
        );
      };
    }),
};
