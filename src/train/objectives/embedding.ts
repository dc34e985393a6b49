/** Embeddings of sentences, which learn from texts that belong together. */
import type { F32Tensor } from '../../base/tensor.js';
import type { EmbeddingTask } from '../../formats/task.js';
import {
  add,
  crossEntropy,
  div,
  gather,
  input,
  matmul,
  mul,
  reshape,
  scalar,
  sqrt,
  sum,
} from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { Batching } from '../data/batches.js';
import {
  encodeSentences,
  MATCHED_FORMS,
  type SentencesContent,
  type SentencesExample,
  SINGLE_FORMS,
} from '../data/sentences.js';
import type { Measure, Objective } from '../objective.js';
import { type Pooling, paddedRows, pooled, poolingFeeds } from './pooling.js';

/** By which cosines are divided before the softmax; sentence-transformers multiplies by 20. */
const TEMPERATURE = 0.05;
/** Below any length that matters: a vector of zeros has the length 0. */
const TINY = 1e-24;

const POOLED: Readonly<Record<EmbeddingTask['pooling'], Pooling>> = {
  mean: 'mean',
  cls: 'first',
  last: 'last',
};

/**
 * In-batch negatives (Henderson et al., arXiv:1705.00652), MultipleNegativesRankingLoss of sentence-transformers: the
 * cross-entropy of each anchor's match among the matches and negatives of all rows of its batch, by cosines.
 */
export function embedding({
  pooling,
  normalize,
}: EmbeddingTask): Objective<SentencesExample, SentencesContent> {
  const reads = POOLED[pooling];
  return {
    name: 'embedding',
    units: { target: 'row', loss: 'nats a row' },
    reading: { forms: MATCHED_FORMS, encode: encodeSentences },
    answers: {
      reading: { forms: SINGLE_FORMS, encode: encodeSentences },
      of: (examples, { dims: [, width], data }) =>
        examples.map((_, row) => ({ embedding: data.slice(row * width, (row + 1) * width) })),
    },
    batching: batchingOf(reads),
    loss({ hidden }) {
      const vectors = pooled(hidden, reads);
      const units = unitVectors(vectors);
      const anchors = gather(units, input('anchors', 'int32', ['examples']));
      const candidates = gather(units, input('candidates', 'int32', ['candidates']));
      const scores = mul(matmul(anchors, candidates, { transB: true }), scalar(1 / TEMPERATURE));
      const losses = crossEntropy(scores, input('targetIds', 'int32', ['examples']));
      return { losses, logits: normalize ? units : vectors };
    },
    measure: measureOfMatches,
  };
}

/** Rows of length 1. */
function unitVectors(x: Tensor): Tensor {
  const squares = reshape(sum(mul(x, x), 1), [x.shape[0], 1]);
  return div(x, sqrt(add(squares, scalar(TINY))));
}

/** Rows of the graph: all anchors, then all their matches, then all negatives. */
function batchingOf(reads: Pooling): Batching<SentencesExample> {
  return {
    rows: 1,
    rowsOf: ({ sentences }) => sentences.length,
    whole: true,
    lengthOf: ({ sentences }) => sentences.reduce((longest, { ids }) => Math.max(longest, ids.length), 0),
    assembled(rows) {
      const examples = rows.flat();
      const count = examples.length;
      const columns = examples[0].sentences.map((_, column) =>
        examples.map(({ sentences }) => sentences[column]),
      );
      const padded = paddedRows(columns.flat());
      const { targetRows, feeds } = poolingFeeds(padded.lengths, padded.length, reads);
      // A text alone, which is only embedded, is its own match.
      const first = columns.length === 1 ? 0 : count;
      return {
        ...padded,
        targetRows,
        targetIds: numbers(0, count),
        feeds: {
          ...feeds,
          anchors: int32(numbers(0, count)),
          candidates: int32(numbers(first, padded.rows)),
        },
      };
    },
  };
}

const numbers = (from: number, to: number) => Int32Array.from({ length: to - from }, (_, i) => from + i);
const int32 = (data: Int32Array) => ({ dtype: 'int32' as const, dims: [data.length], data });

/** The share of anchors whose match is nearest, and the mean of one over the place of it, within batches. */
function measureOfMatches(): Measure {
  let [count, nearest, reciprocals] = [0, 0, 0];
  return {
    add({ targetIds, feeds }, vectors) {
      const candidates = feeds!.candidates.data as Int32Array;
      const lengths = lengthsOf(vectors);
      for (const [anchor, match] of targetIds.entries()) {
        const scores = Array.from(candidates, (row) => dot(vectors, anchor, row) / (lengths[row] || 1));
        const place = 1 + scores.filter((score, i) => i !== match && score >= scores[match]).length;
        count++;
        if (place === 1) nearest++;
        reciprocals += 1 / place;
      }
    },
    result: () => ({ accuracy: nearest / count, mrr: reciprocals / count }),
  };
}

function dot({ dims: [, width], data }: F32Tensor, a: number, b: number): number {
  let total = 0;
  for (let i = 0; i < width; i++) total += data[a * width + i] * data[b * width + i];
  return total;
}

function lengthsOf(vectors: F32Tensor): number[] {
  return Array.from({ length: vectors.dims[0] }, (_, row) => Math.sqrt(dot(vectors, row, row)));
}
