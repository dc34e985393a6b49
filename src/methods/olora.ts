import { qr } from '../base/linalg/qr.js';
import { checkJson } from '../formats/io/json.js';
import { fromBaseMethod, fromBaseOptions } from './fromBase.js';
import { snakeKeys } from './keys.js';
import { type LoraConfig, lora } from './lora.js';
import type { Method } from './method.js';

/**
 * OLoRA (Büyükakyüz, arXiv:2406.01775): LoRA that starts as the first r columns of Q and rows of R of the base's QR
 * factorization, so that B starts orthonormal.
 */
export const olora: Method<LoraConfig> = {
  ...lora,
  ...fromBaseMethod<LoraConfig>('olora', (_, weight, r) => {
    const { q, r: triangle } = qr(weight, r);
    return { b: q, a: triangle };
  }),
  // Its steps are larger than LoRA's at the same rate.
  learningRate: undefined,
  card: {
    title: 'OLoRA',
    paper: 'arXiv:2406.01775',
    parameters: 'r·(in + out) a target',
    inference: 'two products of rank 2r a target',
    merges: true,
    peft: 'LORA of rank 2r',
  },
  options: fromBaseOptions,
  fromPeft: undefined,
  parse: (place, config) => lora.parse(place, checkJson(place, snakeKeys(config), fromBaseOptions)),
};
