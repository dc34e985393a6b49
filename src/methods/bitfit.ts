import { UserError } from '../base/errors.js';
import { methodOfModel } from './ofModel.js';

/** BitFit (Ben Zaken et al., arXiv:2106.10199): only the model's own biases train; the result is a whole model. */
export const bitfit = methodOfModel({
  name: 'bitfit',
  card: {
    title: 'BitFit',
    paper: 'arXiv:2106.10199',
    parameters: 'all biases',
    inference: 'nothing',
    merges: true,
    peft: null,
  },
  select(_, { parameters, trained }) {
    const biases = [...parameters].filter(([name]) => name.endsWith('.bias') && !trained.includes(name));
    if (biases.length === 0) {
      throw new UserError(
        'bitfit trains biases and this model has none (qwen2 has some); the nearest thing is lora with r 1',
      );
    }
    return biases.map(([name, shape]) => ({ name, shape, init: null }));
  },
});
