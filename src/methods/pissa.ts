import * as z from 'zod';
import { truncatedSvd } from '../base/linalg/svd.js';
import { checkJson } from '../formats/io/json.js';
import { balancedStart, fromBaseMethod, fromBaseOptions } from './fromBase.js';
import { snakeKeys } from './keys.js';
import { type LoraConfig, lora } from './lora.js';
import type { Method } from './method.js';

export interface PissaConfig extends LoraConfig {
  /** Power iterations of the truncated SVD. */
  pissaNiter: number;
}

const options = fromBaseOptions.extend({
  pissa_niter: z
    .int()
    .nonnegative()
    .default(8)
    .describe('PiSSA: power iterations of the truncated SVD of matrices with more than 64 rows and columns'),
});

/**
 * PiSSA (Meng et al., arXiv:2404.02948): LoRA that starts as the principal part of the base, s·B₀·A₀ = U_r Σ_r V_rᵀ, so
 * that it trains what matters most and leaves the residual alone.
 */
export const pissa: Method<PissaConfig> = {
  ...lora,
  ...fromBaseMethod<PissaConfig>('pissa', (c, weight, r, scale) => {
    return balancedStart(truncatedSvd(weight, r, { iterations: c.pissaNiter }), scale);
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
