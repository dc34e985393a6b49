import type { Tokenizer } from '../../formats/tokenizer.js';
import { crossEntropy, gather, input } from '../../graph/ops/index.js';
import type { EncodeRowsOptions } from '../data/encode.js';
import { classOf } from '../data/labelled.js';
import type { Row } from '../data/row.js';
import { encodeTagged, type TaggedContent, type TaggedExample, taggedForms } from '../data/tagged.js';
import type { Objective } from '../objective.js';
import { measureOfClasses } from './measures.js';
import { paddedRows } from './pooling.js';

/** Classifies words by their first tokens: cross-entropy, as transformers' ForTokenClassification has it. */
export function tokenClassification(labels: readonly string[]): Objective<TaggedExample, TaggedContent> {
  return {
    name: 'token-classification',
    reading: {
      forms: taggedForms({ needsLabels: true }),
      encode: (rows: AsyncIterable<Row<TaggedContent>>, tokenizer: Tokenizer, options: EncodeRowsOptions) =>
        encodeTagged(rows, tokenizer, options, classOf(labels)),
    },
    batching: {
      rows: 1,
      lengthOf: ({ ids }) => ids.length,
      assembled(rows) {
        const examples = rows.flat();
        const padded = paddedRows(examples);
        const at = examples.flatMap(({ positions }, row) =>
          [...positions].map((i) => row * padded.length + i),
        );
        return {
          ...padded,
          targetRows: Int32Array.from(at),
          targetIds: Int32Array.from(examples.flatMap(({ targets }) => [...targets])),
        };
      },
    },
    loss({ network, sites, hidden }) {
      const logits = network.head!.logits(sites, gather(hidden, input('rows', 'int32', ['targets'])));
      return { losses: crossEntropy(logits, input('targetIds', 'int32', ['targets'])), logits };
    },
    measure: () => measureOfClasses(labels.length),
  };
}
