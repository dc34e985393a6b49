import { crossEntropy, gather, input } from '../../graph/ops/index.js';
import { languageModel } from '../../models/architecture.js';
import { TokenCache } from '../data/cache.js';
import { type Example, encodeEach } from '../data/encode.js';
import { type RowContent, TEXT_FORMS } from '../data/forms.js';
import { nextToken } from '../data/nextToken.js';
import type { Objective } from '../objective.js';

/** Of a row that is learned from its first token on: this share of it, and no more tokens than that. */
const OPENING = { share: 0.25, tokens: 16 };

/** Next-token prediction: the cross-entropy of each supervised token, given all before it (LoRA, equation 2). */
export const causalLm: Objective<Example, RowContent> = {
  name: 'causal-lm',
  units: { target: 'token', loss: 'nats a token' },
  reading: { forms: TEXT_FORMS, encode: encodeEach, cache: (folder) => new TokenCache(folder) },
  batching: nextToken,
  loss({ network, sites, hidden }) {
    const model = languageModel(network, 'is not trained to predict the next token');
    // The head sees the supervised rows alone.
    const rows = input('rows', 'int32', ['targets']);
    const logits = model.lmHead(sites, gather(hidden, rows));
    return { losses: crossEntropy(logits, input('targetIds', 'int32', ['targets'])), logits };
  },
  measure: () => ({ result: (loss) => ({ perplexity: Math.exp(loss) }) }),
  beginning: beginningOf,
};

/** All that stands before what is learned. */
export function beginningOf({ ids, supervised }: Example): Int32Array {
  const learned = supervised.indexOf(1);
  const opening = Math.min(OPENING.tokens, Math.max(1, Math.floor(ids.length * OPENING.share)));
  return ids.subarray(0, learned > 1 ? learned : opening);
}
