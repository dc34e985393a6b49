import type { Tensor } from '../../graph/tensor.js';
import type { ModelConfig, Sites } from '../model.js';

/**
 * Logits over the vocabulary for rows of hidden states, [n, hidden] to [n, vocab]: by a head of its own, or by the matrix
 * of the embedding where they are tied.
 */
export function vocabularyLogits(
  c: ModelConfig,
  names: { head: string; embedding: string },
  sites: Sites,
  hidden: Tensor,
): Tensor {
  const shape = { in: c.hiddenSize, out: c.vocabSize, role: 'head' } as const;
  return c.tieWordEmbeddings
    ? sites.tiedLinear(names.head, names.embedding, hidden, shape)
    : sites.linear(names.head, hidden, shape);
}
