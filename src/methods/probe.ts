import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import type { Method } from './method.js';

const options = z.strictObject({});

/** A linear probe (Alain and Bengio, arXiv:1610.01644), the least of baselines: of a model for a task only the head trains. */
export const probe: Method<Record<string, never>> = {
  name: 'probe',
  card: {
    title: 'Linear probe',
    paper: 'arXiv:1610.01644',
    parameters: "the head's",
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
  select(_, { trained }) {
    if (trained.length > 0) return [];
    throw new UserError('probe trains the head of a task, and this model has none: give it one (--task)');
  },
};
