/** The vectors that the answers of rows are made of: one of each row's hidden states, or their mean. */
import { f32 } from '../../base/tensor.js';
import { gather, input, matmul } from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { MicroBatch } from '../data/batches.js';

/** What of a row's positions: its first or last token, or the mean of all. */
export type Pooling = 'first' | 'last' | 'mean';

/** Hidden states [batch·seq, hidden] to a vector a row, [batch, hidden]. */
export function pooled(hidden: Tensor, pooling: Pooling): Tensor {
  if (pooling !== 'mean') return gather(hidden, input('rows', 'int32', ['batch']));
  const tokens = gather(hidden, input('rows', 'int32', ['tokens']));
  return matmul(input('shares', 'float32', ['batch', 'tokens']), tokens);
}

/** What that takes of a micro-batch: for a mean the positions of all tokens, and the share of each in its row's. */
export function poolingFeeds(
  lengths: Int32Array,
  length: number,
  pooling: Pooling,
): Pick<MicroBatch, 'targetRows' | 'feeds'> {
  if (pooling !== 'mean') {
    return { targetRows: lengths.map((own, row) => row * length + (pooling === 'first' ? 0 : own - 1)) };
  }
  const tokens = lengths.reduce((a, b) => a + b, 0);
  const targetRows = new Int32Array(tokens);
  const shares = new Float32Array(lengths.length * tokens);
  let at = 0;
  for (const [row, own] of lengths.entries()) {
    for (let i = 0; i < own; i++, at++) {
      targetRows[at] = row * length + i;
      shares[row * tokens + at] = 1 / own;
    }
  }
  return { targetRows, feeds: { shares: f32(shares, [lengths.length, tokens]) } };
}

/** Sequences as rows, padded on the right. */
export function paddedRows(
  examples: readonly { ids: Int32Array; typeIds?: Int32Array }[],
): Pick<MicroBatch, 'rows' | 'length' | 'ids' | 'lengths' | 'typeIds'> {
  const lengths = Int32Array.from(examples, ({ ids }) => ids.length);
  const length = lengths.reduce((a, b) => Math.max(a, b), 0);
  const size = examples.length * length;
  const [ids, typeIds] = [new Int32Array(size), new Int32Array(size)];
  for (const [row, example] of examples.entries()) {
    ids.set(example.ids, row * length);
    if (example.typeIds) typeIds.set(example.typeIds, row * length);
  }
  const hasTypes = examples.some((example) => example.typeIds !== undefined);
  return { rows: examples.length, length, ids, lengths, ...(hasTypes && { typeIds }) };
}
