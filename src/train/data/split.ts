/** Rows held out of training, to evaluate on. */

import { UserError } from '../../base/errors.js';
import { Rng } from '../../base/rng.js';

/**
 * Holds out `size` of the rows (a number from 1 on, or a share below 1), chosen by the seed; both parts stay in their
 * order. Throws UserError where nothing would be left to train on.
 */
export function splitRows<T>(rows: readonly T[], size: number, seed: number): { train: T[]; heldOut: T[] } {
  const count = size < 1 ? Math.max(1, Math.round(size * rows.length)) : size;
  if (count >= rows.length) {
    throw new UserError(`evalSplit holds out ${count} of ${rows.length} rows, which leaves none to train on`);
  }
  const chosen = new Set(new Rng(seed, 'held-out rows').permutation(rows.length).slice(0, count));
  return {
    train: rows.filter((_, i) => !chosen.has(i)),
    heldOut: rows.filter((_, i) => chosen.has(i)),
  };
}
