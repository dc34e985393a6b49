import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';
import { snakeKeys } from './keys.js';
import { type LoraConfig, lora, loraConfig, loraOptions } from './lora.js';
import type { Method } from './method.js';

export interface LoraPlusConfig extends LoraConfig {
  /** Learning rate of B over that of A. */
  loraplusLrRatio: number;
  /** Learning rate of the LoRA of an embedding, before the schedule. */
  loraplusLrEmbedding: number;
}

const options = loraOptions.extend({
  loraplus_lr_ratio: z.number().positive().default(16).describe('LoRA+: learning rate of B over that of A'),
  loraplus_lr_embedding: z
    .number()
    .positive()
    .default(1e-6)
    .describe('LoRA+: learning rate of A and B of embeddings among the targets'),
});

/**
 * LoRA+ (Hayou et al., arXiv:2402.12354): LoRA whose B learns λ times as fast as A, as does every vector (biases, norms that train
 * whole), and whose embeddings have a rate of their own: the groups of PEFT's create_loraplus_optimizer. It is a way to train: what
 * it leaves is a LoRA adapter, saved and loaded as one.
 */
export const loraplus: Method<LoraPlusConfig> = {
  ...lora,
  name: 'loraplus',
  // Its steps are larger than LoRA's at the same rate.
  learningRate: undefined,
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
    const { loraplus_lr_ratio, loraplus_lr_embedding, ...rest } = checkJson(
      place,
      snakeKeys(config),
      options,
    );
    return {
      ...loraConfig(rest, place),
      loraplusLrRatio: loraplus_lr_ratio,
      loraplusLrEmbedding: loraplus_lr_embedding,
    };
  },
  fromPeft: undefined,
  learningRateFactor(c, { at, shape }, learningRate) {
    if (at?.part.startsWith('lora_embedding_')) return c.loraplusLrEmbedding / learningRate;
    return at?.part === 'lora_B' || shape.length === 1 ? c.loraplusLrRatio : 1;
  },
};
