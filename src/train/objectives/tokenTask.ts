import type { Tokenizer } from '../../formats/tokenizer.js';
import { crossEntropy, gather, input } from '../../graph/ops/index.js';
import type { EncodeRowsOptions } from '../data/encode.js';
import { classOf } from '../data/labelled.js';
import type { Row } from '../data/row.js';
import { encodeTagged, type TaggedContent, type TaggedExample, taggedForms } from '../data/tagged.js';
import type { Objective } from '../objective.js';
import { classAnswer, measureOfWords } from './measures.js';
import { paddedRows } from './pooling.js';

/** Classifies words by their first tokens: cross-entropy, as transformers' ForTokenClassification has it. */
export function tokenClassification(labels: readonly string[]): Objective<TaggedExample, TaggedContent> {
  const reading = (needsLabels: boolean) => ({
    forms: taggedForms({ needsLabels }),
    encode: (rows: AsyncIterable<Row<TaggedContent>>, tokenizer: Tokenizer, options: EncodeRowsOptions) =>
      encodeTagged(rows, tokenizer, options, classOf(labels)),
  });
  return {
    name: 'token-classification',
    units: { target: 'word', loss: 'nats a word' },
    reading: reading(true),
    answers: {
      reading: reading(false),
      of(examples, logits) {
        let at = 0;
        return examples.map(({ words }) => ({
          labels: words.map((word) => {
            const { label, probability } = classAnswer(labels, logits, at++);
            return { word, label, probability };
          }),
        }));
      },
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
    measure: () => measureOfWords(labels),
  };
}
