import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';
import { tanh } from '../graph/ops/index.js';
import type { Architecture } from './architecture.js';
import { type BertConfig, bertConfig, bertKeys, bertNetwork } from './bert.js';
import { headLayer, linearHead, type TaskHead } from './blocks/taskHead.js';
import { size } from './configKeys.js';
import { refuseForeignWeights } from './foreignWeights.js';

export const robertaKeys = bertKeys.extend({
  vocab_size: size.default(50_265),
  pad_token_id: z.int().nonnegative().default(1),
});

/** RoBERTa: BERT whose positions are counted from behind the id of its padding token. */
export const roberta = robertaArchitecture('roberta', robertaKeys);

/** RoBERTa's head for rows: two layers over the first token, and no pooler. */
function rowHead(shape: { in: number; out: number }): TaskHead {
  return linearHead('classifier.out_proj', shape, 'first', (sites, first) =>
    tanh(headLayer(sites, 'classifier.dense', first, shape.in)),
  );
}

/** A network of RoBERTa's kind. */
export function robertaArchitecture(modelType: string, keys: typeof robertaKeys): Architecture<BertConfig> {
  return {
    modelType,
    parse(place, config) {
      refuseForeignWeights(place, config);
      const c = checkJson(place, config, keys);
      return bertConfig(modelType, place, c, c.pad_token_id + 1);
    },
    network: (c) => bertNetwork(c, 'roberta.', /^lm_head\./, rowHead),
  };
}
