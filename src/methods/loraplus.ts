import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';
import { snakeKeys } from './keys.js';
import { type LoraConfig, lora, loraConfig, loraOptions } from './lora.js';
import type { Method } from './method.js';

export interface LoraPlusConfig extends LoraConfig {
  /** Learning rate of B over that of A. */
  loraplusLrRatio: number;
}

const options = loraOptions.extend({
  loraplus_lr_ratio: z.number().positive().default(16).describe('LoRA+: learning rate of B over that of A'),
});

/**
 * LoRA+ (Hayou et al., arXiv:2402.12354): LoRA whose B, its bias included, learns λ times as fast as A. It is a way to train: what it
 * leaves is a LoRA adapter, saved and loaded as one.
 */
export const loraplus: Method<LoraPlusConfig> = {
  ...lora,
  name: 'loraplus',
  card: {
    title: 'LoRA+',
    paper: 'arXiv:2402.12354',
    parameters: 'r·(in + out) a target',
    inference: 'two products of rank r a target',
    merges: true,
    peft: 'LORA',
  },
  options,
  parse(place, config) {
    const { loraplus_lr_ratio, ...rest } = checkJson(place, snakeKeys(config), options);
    return { ...loraConfig(rest, place), loraplusLrRatio: loraplus_lr_ratio };
  },
  fromPeft: undefined,
  learningRateFactor: (c, name) => (/\.lora_(B|bias)$/.test(name) ? c.loraplusLrRatio : 1),
};
