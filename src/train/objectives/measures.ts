/** What evaluations of tasks measure, as GLUE and CoNLL have it. */
import type { F32Tensor } from '../../base/tensor.js';
import { accuracy, binaryF1, confusionMatrix, macroF1, matthews } from '../metrics/classification.js';
import { pearson, spearman } from '../metrics/correlation.js';
import { areEntityLabels, entityScores } from '../metrics/entities.js';
import type { Measure, Metrics } from '../objective.js';

/** The largest of each row of logits [n, classes]. */
function largest({ dims: [rows, width], data }: F32Tensor): Int32Array {
  return Int32Array.from({ length: rows }, (_, row) => {
    const own = data.subarray(row * width, (row + 1) * width);
    return own.reduce((best, value, i) => (value > own[best] ? i : best), 0);
  });
}

/** What a row of logits says of the classes: the likeliest, and the probability of each. */
export function classAnswer(
  labels: readonly string[],
  { data }: F32Tensor,
  row: number,
): { label: string; probability: number; probabilities: Record<string, number> } {
  const own = [...data.subarray(row * labels.length, (row + 1) * labels.length)];
  const most = Math.max(...own);
  const exponentials = own.map((logit) => Math.exp(logit - most));
  const total = exponentials.reduce((a, b) => a + b, 0);
  const best = own.indexOf(most);
  const probabilities = Object.fromEntries(labels.map((label, i) => [label, exponentials[i] / total]));
  return { label: labels[best], probability: exponentials[best] / total, probabilities };
}

/** Of rows' classes: accuracy, F1 (of the second of two classes, and the mean of all), Matthews' correlation. */
export function measureOfClasses(classes: number): Measure {
  const [told, right]: number[][] = [[], []];
  return {
    add(micro, logits) {
      told.push(...largest(logits));
      right.push(...micro.targetIds);
    },
    result: () => classMetrics(right, told, classes),
  };
}

function classMetrics(right: readonly number[], told: readonly number[], classes: number): Metrics {
  const matrix = confusionMatrix(right, told, classes);
  return {
    accuracy: accuracy(matrix),
    ...(classes === 2 && { f1: binaryF1(matrix) }),
    macroF1: macroF1(matrix),
    matthews: matthews(matrix),
  };
}

/** Of words' classes: the same, and of labels as B-LOC the scores of whole entities. */
export function measureOfWords(labels: readonly string[]): Measure {
  const [told, right]: number[][][] = [[], []];
  return {
    add({ rows, length, targetRows, targetIds }, logits) {
      const found = largest(logits);
      const first = told.length;
      for (let row = 0; row < rows; row++) {
        told.push([]);
        right.push([]);
      }
      for (const [i, at] of targetRows.entries()) {
        const row = first + Math.floor(at / length);
        told[row].push(found[i]);
        right[row].push(targetIds[i]);
      }
    },
    result() {
      const classes = classMetrics(right.flat(), told.flat(), labels.length);
      if (!areEntityLabels(labels)) return classes;
      const named = (rows: readonly number[][]) => rows.map((row) => row.map((id) => labels[id]));
      const { precision, recall, f1 } = entityScores(named(right), named(told));
      return { ...classes, entityF1: f1, entityPrecision: precision, entityRecall: recall };
    },
  };
}

/** Of numbers: the correlations of what is told with what is right; none where either never changes. */
export function measureOfNumbers(): Measure {
  const [told, right]: number[][] = [[], []];
  return {
    add({ feeds }, logits) {
      told.push(...logits.data);
      right.push(...(feeds!.values.data as Float32Array));
    },
    result() {
      const [linear, ranks] = [pearson(right, told), spearman(right, told)];
      return {
        ...(linear !== undefined && { pearson: linear }),
        ...(ranks !== undefined && { spearman: ranks }),
      };
    },
  };
}
