/** Intruder dimensions (Shuttleworth et al., arXiv:2410.21228): leading directions of W + ΔW that W has nothing like. */
import { type Matrix, multiplyRows, transpose } from '../base/linalg/matrix.js';
import type { Svd } from '../base/linalg/svd.js';
import { symmetricEigen } from '../base/linalg/symmetric.js';
import { type Dense, leadingSvd, type Operator, sumOf } from './operator.js';
import { WHOLE_SPECTRUM } from './spectrum.js';

/** How they are counted. The values left out are those of PEFT's reduce_intruder_dimension. */
export interface IntruderRule {
  /** Left-singular vectors of W + ΔW that are looked at: those of the largest singular values. */
  k: number;
  /** One is an intruder where its largest |cosine| to a left-singular vector of W is below this. */
  epsilon: number;
}

export const INTRUDER_RULE: IntruderRule = { k: 10, epsilon: 0.5 };

export interface Intruders extends IntruderRule {
  count: number;
  /** How many of W's vectors they were compared with where that decided it; null: with all. */
  against: number | null;
}

/**
 * Counts them. Most are decided by W's leading vectors alone: one that is near to one of these is none, and one that has less
 * than ε² of its length outside of them all cannot be near to another. For the others all of W's vectors are computed,
 * where it is no larger than 1,024 on its smaller side; beyond, they count as intruders.
 */
export async function intrudersOf(
  w: Dense,
  change: Operator,
  weight: Svd,
  { rule = INTRUDER_RULE, seed = 0 }: { rule?: IntruderRule; seed?: number } = {},
): Promise<Intruders> {
  const k = Math.min(rule.k, w.rows, w.columns);
  const { epsilon } = rule;
  const start = w.rows <= w.columns ? transpose(weight.u) : weight.vt;
  const tuned = await leadingSvd(sumOf(w, change), k, { start, seed });
  const candidates = transpose(tuned.u);
  const near = cosines(candidates, transpose(weight.u));
  const undecided: number[] = [];
  let count = 0;
  for (const [i, { most, held }] of near.entries()) {
    if (most >= epsilon) continue;
    if (1 - held < epsilon ** 2) count++;
    else undecided.push(i);
  }
  if (undecided.length === 0) return { k, epsilon, count, against: null };
  if (Math.min(w.rows, w.columns) > WHOLE_SPECTRUM) {
    return { k, epsilon, count: count + undecided.length, against: weight.s.length };
  }
  const all = cosines(candidates, await leftVectors(w));
  count += undecided.filter((i) => all[i].most < epsilon).length;
  return { k, epsilon, count, against: null };
}

/** Of each row: its largest |cosine| to one of the others, and what of its squared length lies along them. */
function cosines(rows: Matrix, others: Matrix): { most: number; held: number }[] {
  const { data, columns } = multiplyRows(rows, others);
  return Array.from({ length: rows.rows }, (_, i) => {
    let [most, held] = [0, 0];
    for (const cosine of data.subarray(i * columns, (i + 1) * columns)) {
      most = Math.max(most, Math.abs(cosine));
      held += cosine ** 2;
    }
    return { most, held };
  });
}

/** All of W's left-singular vectors of singular values above 0, as rows. */
async function leftVectors(w: Dense): Promise<Matrix> {
  const { values, vectors } = symmetricEigen(await w.gram(), 'vectors');
  if (w.rows <= w.columns) return vectors;
  const images = await w.apply(vectors);
  const data = images.data.slice();
  for (let i = 0; i < images.rows; i++) {
    const s = Math.sqrt(Math.max(0, values[i]));
    const known = s > 1e-6 * Math.sqrt(values[0]);
    for (let c = i * images.columns; c < (i + 1) * images.columns; c++) data[c] = known ? data[c] / s : 0;
  }
  return { ...images, data };
}
