import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';
import type { Method } from './method.js';

const options = z.strictObject({});
type NoOptions = Record<string, never>;

/** A method without options that adds nothing to a model: what it trains are tensors of the model's own, so the result is one. */
export function methodOfModel(
  method: Pick<Method<NoOptions>, 'name' | 'card' | 'select'>,
): Method<NoOptions> {
  return {
    ...method,
    startsAtBase: true,
    options,
    parse(place, config) {
      checkJson(place, config, options);
      return {};
    },
  };
}
