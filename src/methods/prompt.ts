import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { checkJson } from '../formats/io/json.js';
import { add, concat, constant, gather, input, scalar, where } from '../graph/ops/index.js';
import { snakeKeys } from './keys.js';
import { type Method, siteTensor } from './method.js';
import { normalStart } from './starts.js';
import { optionsOf, promptKeys, REAL, VIRTUAL, virtualTokens } from './virtualTokens.js';

export interface PromptConfig {
  numVirtualTokens: number;
}

const options = z.strictObject({ num_virtual_tokens: virtualTokens });
const SAVED = 'prompt_embeddings';

/**
 * Prefix-embedding tuning (Lester et al., arXiv:2104.08691; the paper's PreEmbed): trained embeddings of virtual tokens
 * stand before every sequence. In PEFT it is PROMPT_TUNING.
 */
export const prompt: Method<PromptConfig> = {
  name: 'prompt',
  card: {
    title: 'Prefix-embedding tuning',
    paper: 'arXiv:2104.08691',
    parameters: 'hidden size · virtual tokens',
    inference: 'the virtual tokens, which are computed and take room in the cache',
    merges: false,
    peft: 'PROMPT_TUNING',
  },
  startsAtBase: false,
  options,

  parse(place, config) {
    return { numVirtualTokens: checkJson(place, snakeKeys(config), options).num_virtual_tokens };
  },

  select({ numVirtualTokens }, { sites }) {
    const site = sites.find(({ role }) => role === 'embedding');
    if (!site) throw new UserError('prompt needs an embedding of tokens, and the model has none');
    const size = numVirtualTokens * site.out;
    // As PyTorch starts an embedding.
    return [siteTensor(site, SAVED, [numVirtualTokens, site.out], normalStart(size))];
  },

  virtualTokens: (c) => c.numVirtualTokens,

  embedding(_, { site, ids, param }, y) {
    const nothing = constant(f32(new Float32Array(site.out), [1, site.out]));
    const rows = concat([param(SAVED), nothing], 0);
    return add(
      where(input(REAL, 'bool', [...ids.shape, 1]), y, scalar(0)),
      gather(rows, input(VIRTUAL, 'int32', ids.shape)),
    );
  },

  folder: {
    peftType: 'PROMPT_TUNING',
    encode: (c) => ({
      ...promptKeys(c.numVirtualTokens),
      prompt_tuning_init: 'RANDOM',
      prompt_tuning_init_text: null,
      tokenizer_kwargs: null,
      tokenizer_name_or_path: null,
    }),
    decode: optionsOf,
    fileName: () => SAVED,
  },
};
