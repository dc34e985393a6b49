import * as z from 'zod';
import { leadingSvd } from '../base/linalg/leadingSvd.js';
import { truncatedSvd } from '../base/linalg/svd.js';
import { checkJson } from '../formats/io/json.js';
import { balancedStart, fromBaseMethod, fromBaseOptions } from './fromBase.js';
import { snakeKeys } from './keys.js';
import { type LoraConfig, lora } from './lora.js';
import type { Method } from './method.js';

export interface PissaConfig extends LoraConfig {
  /** Power iterations of a truncated SVD; absent: the exact one. */
  pissaNiter: number | undefined;
}

const options = fromBaseOptions.extend({
  pissa_niter: z
    .int()
    .nonnegative()
    .optional()
    .describe('PiSSA: start from a truncated SVD of so many power iterations (default: the exact SVD)'),
});

/**
 * PiSSA (Meng et al., arXiv:2404.02948): LoRA that starts as the principal part of the base, s·B₀·A₀ = U_r Σ_r V_rᵀ, so
 * that it trains what matters most and leaves the residual alone.
 */
export const pissa: Method<PissaConfig> = {
  ...lora,
  ...fromBaseMethod<PissaConfig>('pissa', (c, weight, r, scale) => {
    const { pissaNiter: iterations } = c;
    const found = iterations === undefined ? leadingSvd(weight, r) : truncatedSvd(weight, r, { iterations });
    return balancedStart(found, scale);
  }),
  // Its steps are larger than LoRA's at the same rate.
  learningRate: undefined,
  card: {
    title: 'PiSSA',
    paper: 'arXiv:2404.02948',
    parameters: 'r·(in + out) a target',
    inference: 'two products of rank 2r a target',
    merges: true,
    peft: 'LORA of rank 2r',
  },
  options,
  fromPeft: undefined,
  parse(place, config) {
    const { pissa_niter, ...rest } = checkJson(place, snakeKeys(config), options);
    return { ...lora.parse(place, rest), pissaNiter: pissa_niter };
  },
};
