import { methodOfModel } from './ofModel.js';

/** Full fine-tuning, LoRA's baseline: the same step with every tensor of the model selected. */
export const full = methodOfModel({
  name: 'full',
  card: {
    title: 'Full fine-tuning',
    paper: 'arXiv:2106.09685',
    parameters: 'all',
    inference: 'nothing',
    merges: true,
    peft: null,
  },
  select: (_, { parameters }) => [...parameters].map(([name, shape]) => ({ name, shape, init: null })),
});
