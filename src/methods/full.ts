import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';
import type { Method } from './method.js';

/** Full fine-tuning, LoRA's baseline: the same step with every tensor of the model selected. */
export const full: Method<Record<string, never>> = {
  name: 'full',
  startsAtBase: true,
  parse(place, config) {
    checkJson(place, config, z.strictObject({}));
    return {};
  },
  select: (_, { parameters }) => [...parameters].map(([name, shape]) => ({ name, shape, init: null })),
};
