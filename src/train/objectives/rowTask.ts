/** Tasks with an answer for each row: its class (sequence classification), or a number (regression). */
import { f32 } from '../../base/tensor.js';
import type { Tokenizer } from '../../formats/tokenizer.js';
import { crossEntropy, input, mul, reshape, sub } from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { Batching, MicroBatch } from '../data/batches.js';
import type { EncodeRowsOptions } from '../data/encode.js';
import {
  classOf,
  encodeLabelled,
  type Label,
  type LabelledContent,
  type LabelledExample,
  labelledForms,
  numberOf,
} from '../data/labelled.js';
import type { Row } from '../data/row.js';
import type { LossContext, Objective, Reading } from '../objective.js';
import { classAnswer, measureOfClasses, measureOfNumbers } from './measures.js';
import { type Pooling, paddedRows, pooled, poolingFeeds } from './pooling.js';

type RowObjective = Objective<LabelledExample, LabelledContent>;

/** Classifies rows: cross-entropy of the head's logits, as transformers' ForSequenceClassification has it. */
export function sequenceClassification(labels: readonly string[], pooling: Pooling): RowObjective {
  return {
    name: 'sequence-classification',
    units: { target: 'row', loss: 'nats a row' },
    reading: readingOf(classOf(labels), true),
    answers: {
      reading: readingOf(classOf(labels), false),
      of: (examples, logits) => examples.map((_, row) => classAnswer(labels, logits, row)),
    },
    batching: batchingOf(pooling, (target) => ({ targetIds: Int32Array.from(target) })),
    loss(context) {
      const logits = rowLogits(context, pooling);
      return { losses: crossEntropy(logits, input('targetIds', 'int32', ['batch'])), logits };
    },
    measure: () => measureOfClasses(labels.length),
  };
}

/** Tells a number of each row: the squared error, as transformers has it where there is one output. */
export function regression(pooling: Pooling): RowObjective {
  return {
    name: 'regression',
    units: { target: 'row', loss: 'squared a row' },
    reading: readingOf(numberOf, true),
    answers: {
      reading: readingOf(numberOf, false),
      of: (examples, logits) => examples.map((_, row) => ({ value: logits.data[row] })),
    },
    batching: batchingOf(pooling, (target) => ({
      targetIds: new Int32Array(target.length),
      feeds: { values: f32(Float32Array.from(target), [target.length]) },
    })),
    loss(context) {
      const logits = rowLogits(context, pooling);
      const error = sub(reshape(logits, ['batch']), input('values', 'float32', ['batch']));
      return { losses: mul(error, error), logits };
    },
    measure: measureOfNumbers,
  };
}

function readingOf(
  targetOf: (label: Label, place: string) => number,
  needsLabel: boolean,
): Reading<LabelledExample, LabelledContent> {
  return {
    forms: labelledForms({ needsLabel }),
    encode: (rows: AsyncIterable<Row<LabelledContent>>, tokenizer: Tokenizer, options: EncodeRowsOptions) =>
      encodeLabelled(rows, tokenizer, options, targetOf),
  };
}

function batchingOf(
  pooling: Pooling,
  targetsOf: (targets: readonly number[]) => Pick<MicroBatch, 'targetIds' | 'feeds'>,
): Batching<LabelledExample> {
  return {
    rows: 1,
    lengthOf: ({ ids }) => ids.length,
    assembled(rows) {
      const examples = rows.flat();
      const padded = paddedRows(examples);
      const { targetRows, feeds } = poolingFeeds(padded.lengths, padded.length, pooling);
      const { targetIds, feeds: more } = targetsOf(examples.map(({ target }) => target));
      return { ...padded, targetRows, targetIds, feeds: { ...feeds, ...more } };
    },
  };
}

/** What the head says of each row, [batch, outputs]. */
function rowLogits({ network, sites, hidden }: LossContext, pooling: Pooling): Tensor {
  return network.head!.logits(sites, pooled(hidden, pooling));
}
