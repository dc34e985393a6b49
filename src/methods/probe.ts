import { UserError } from '../base/errors.js';
import { methodOfModel } from './ofModel.js';

/** A linear probe (Alain and Bengio, arXiv:1610.01644), the least of baselines: of a model for a task only the head trains. */
export const probe = methodOfModel({
  name: 'probe',
  card: {
    title: 'Linear probe',
    paper: 'arXiv:1610.01644',
    parameters: "the head's",
    inference: 'nothing',
    merges: true,
    peft: null,
  },
  select(_, { trained }) {
    if (trained.length > 0) return [];
    throw new UserError('probe trains the head of a task, and this model has none: give it one (--task)');
  },
});
