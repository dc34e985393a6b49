/** Sequences as rows of which each next token may be a target. */
import type { Batching, MicroBatch } from './batches.js';
import type { Example } from './encode.js';

/** Examples that stand one behind the other. */
type PackedRow = readonly Example[];

/** A row has all tokens of its examples but each one's last, which is only a target. */
export const nextToken: Batching<Example> = { rows: 1, lengthOf: inputLength, assembled, startsOf };

function inputLength({ ids }: Example): number {
  return ids.length - 1;
}

function rowLength(row: PackedRow): number {
  return row.reduce((sum, example) => sum + inputLength(example), 0);
}

function assembled(rows: readonly PackedRow[]): MicroBatch {
  const lengths = Int32Array.from(rows, rowLength);
  const length = lengths.reduce((a, b) => Math.max(a, b), 0);
  const ids = new Int32Array(rows.length * length);
  const targetRows: number[] = [];
  const targetIds: number[] = [];
  for (const [row, examples] of rows.entries()) {
    let at = row * length;
    for (const example of examples) {
      const size = inputLength(example);
      ids.set(example.ids.subarray(0, size), at);
      for (let t = 0; t < size; t++) {
        if (example.supervised[t + 1] === 0) continue;
        targetRows.push(at + t);
        targetIds.push(example.ids[t + 1]);
      }
      at += size;
    }
  }
  return {
    rows: rows.length,
    length,
    ids,
    lengths,
    targetRows: Int32Array.from(targetRows),
    targetIds: Int32Array.from(targetIds),
  };
}

/** Padding stands for itself. */
function startsOf(rows: readonly PackedRow[]): Int32Array {
  const length = Math.max(...rows.map(rowLength));
  const starts = Int32Array.from({ length: rows.length * length }, (_, at) => at % length);
  for (const [row, examples] of rows.entries()) {
    let start = 0;
    for (const example of examples) {
      const end = start + inputLength(example);
      starts.fill(start, row * length + start, row * length + end);
      start = end;
    }
  }
  return starts;
}
