import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';
import type { Method } from './method.js';

const options = z.strictObject({});

/** Full fine-tuning, LoRA's baseline: the same step with every tensor of the model selected. */
export const full: Method<Record<string, never>> = {
  name: 'full',
  card: {
    title: 'Full fine-tuning',
    paper: 'arXiv:2106.09685',
    parameters: 'all',
    inference: 'nothing',
    merges: true,
    peft: null,
  },
  startsAtBase: true,
  options,
  parse(place, config) {
    checkJson(place, config, options);
    return {};
  },
  select: (_, { parameters }) => [...parameters].map(([name, shape]) => ({ name, shape, init: null })),
};
