import { crossEntropy, gather, input } from '../../graph/ops/index.js';
import { languageModel } from '../../models/architecture.js';
import type { Example } from '../data/encode.js';
import { nextToken } from '../data/nextToken.js';
import type { Objective } from '../objective.js';

/** Next-token prediction: the cross-entropy of each supervised token, given all before it (LoRA, equation 2). */
export const causalLm: Objective<Example> = {
  name: 'causal-lm',
  batching: nextToken,
  loss({ network, sites, hidden }) {
    const model = languageModel(network, 'is not trained to predict the next token');
    // The head sees the supervised rows alone.
    const rows = input('rows', 'int32', ['targets']);
    const logits = model.lmHead(sites, gather(hidden, rows));
    return { losses: crossEntropy(logits, input('targetIds', 'int32', ['targets'])), logits };
  },
  measure: () => ({ result: (loss) => ({ perplexity: Math.exp(loss) }) }),
};
