/** What evaluations of tasks measure, as GLUE has it. */
import type { F32Tensor } from '../../base/tensor.js';
import type { MicroBatch } from '../data/batches.js';
import type { Measure } from '../objective.js';

/** The largest of each row of logits [n, classes]. */
export function largest({ dims: [rows, width], data }: F32Tensor): Int32Array {
  return Int32Array.from({ length: rows }, (_, row) => {
    const own = data.subarray(row * width, (row + 1) * width);
    return own.reduce((best, value, i) => (value > own[best] ? i : best), 0);
  });
}

/** Of classes told: accuracy. */
export function measureOfClasses(_classes: number): Measure {
  const [told, right]: number[][] = [[], []];
  return {
    add(micro: MicroBatch, logits) {
      told.push(...largest(logits));
      right.push(...micro.targetIds);
    },
    result: () => ({ accuracy: told.filter((label, i) => label === right[i]).length / told.length }),
  };
}

/** Of numbers told. */
export function measureOfNumbers(): Measure {
  return { result: () => ({}) };
}
