/**
 * How well classes are told. Everything is computed from the confusion matrix, and equals scikit-learn with its defaults:
 * what would be divided by zero is 0.
 */

/** Counts of rows [true class][predicted class]. */
export type ConfusionMatrix = readonly (readonly number[])[];

export interface ClassScores {
  /** Of the rows predicted to be of the class, the share that is. 0 where none is predicted. */
  precision: number;
  /** Of the rows of the class, the share that is found. 0 where there are none. */
  recall: number;
  /** Harmonic mean of both. */
  f1: number;
  /** Rows of the class. */
  support: number;
}

/**
 * Counts numbers of classes, 0 to `classes` − 1. Throws RangeError where there are no rows, where the two have not the same
 * length, and for a number that is no class.
 */
export function confusionMatrix(
  truth: ArrayLike<number>,
  predicted: ArrayLike<number>,
  classes: number,
): ConfusionMatrix {
  if (truth.length === 0) throw new RangeError('no rows to score');
  if (truth.length !== predicted.length)
    throw new RangeError(`${truth.length} true classes, but ${predicted.length} predicted ones`);
  const matrix = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let row = 0; row < truth.length; row++) {
    for (const c of [truth[row], predicted[row]]) {
      if (!(Number.isInteger(c) && c >= 0 && c < classes))
        throw new RangeError(`row ${row + 1}: ${c} is none of ${classes} classes`);
    }
    matrix[truth[row]][predicted[row]]++;
  }
  return matrix;
}

/** The share of rows whose class is told right. */
export function accuracy(matrix: ConfusionMatrix): number {
  return rightOf(matrix) / total(matrix.map(total));
}

/** The scores of each class by itself. */
export function scoresByClass(matrix: ConfusionMatrix): ClassScores[] {
  const predicted = columnSums(matrix);
  return matrix.map((row, c) => scores(row[c], predicted[c], total(row)));
}

/** F1 of the `positive` class. */
export function binaryF1(matrix: ConfusionMatrix, positive = 1): number {
  return scoresByClass(matrix)[positive].f1;
}

/** The mean F1 of the classes that any row is of or is predicted to be of: each counts alike, however rare it is. */
export function macroF1(matrix: ConfusionMatrix): number {
  const predicted = columnSums(matrix);
  const met = scoresByClass(matrix).filter(({ support }, c) => support + predicted[c] > 0);
  return total(met.map(({ f1 }) => f1)) / met.length;
}

/**
 * Matthews' correlation of true and predicted classes, −1 to 1, for any number of classes (Gorodkin's R_K). 0 where all rows
 * are of one class, or are predicted to be.
 */
export function matthews(matrix: ConfusionMatrix): number {
  const [truth, predicted] = [matrix.map(total), columnSums(matrix)];
  const rows = total(truth);
  const covariance = (a: number[], b: number[]) => rows * rows - total(a.map((count, c) => count * b[c]));
  const spread = covariance(truth, truth) * covariance(predicted, predicted);
  if (spread === 0) return 0;
  const shared = rightOf(matrix) * rows - total(truth.map((count, c) => count * predicted[c]));
  return shared / Math.sqrt(spread);
}

/** Scores of `right` hits among `predicted` ones, where there were `support` to find. */
export function scores(right: number, predicted: number, support: number): ClassScores {
  const share = (part: number, whole: number) => (whole === 0 ? 0 : part / whole);
  return {
    precision: share(right, predicted),
    recall: share(right, support),
    f1: share(2 * right, predicted + support),
    support,
  };
}

function rightOf(matrix: ConfusionMatrix): number {
  return total(matrix.map((row, c) => row[c]));
}

function columnSums(matrix: ConfusionMatrix): number[] {
  return matrix.map((_, column) => total(matrix.map((row) => row[column])));
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, n) => sum + n, 0);
}
