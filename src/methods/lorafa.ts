import { UserError } from '../base/errors.js';
import { type LoraConfig, lora } from './lora.js';
import type { Method } from './method.js';

/**
 * LoRA-FA (Zhang et al., arXiv:2308.03303): LoRA whose A keeps its random start, so that only B has gradients and
 * optimizer state; of an embedding, whose A starts at zero, both train. (PEFT's optimizer of that name scales the
 * gradient of B besides.) What it leaves is a LoRA adapter, saved and loaded as one.
 */
export const lorafa: Method<LoraConfig> = {
  ...lora,
  name: 'lorafa',
  card: {
    title: 'LoRA-FA',
    paper: 'arXiv:2308.03303',
    parameters: 'r·out a target',
    inference: 'two products of rank r a target',
    merges: true,
    peft: 'LORA',
  },
  parse(place, config) {
    const parsed = lora.parse(place, config);
    if (parsed.initLoraWeights !== 'mica') return parsed;
    throw new UserError(`${place}: init_lora_weights "mica" keeps B and lorafa keeps A: nothing would train`);
  },
  select: (c, model) =>
    lora.select(c, model).map((t) => (t.at?.part === 'lora_A' ? { ...t, requiresGrad: false } : t)),
  fromPeft: undefined,
};
