/** Rows held out of training, to evaluate on. */

import { UserError } from '../../base/errors.js';
import { Rng } from '../../base/rng.js';

/**
 * Which of `rows` rows are held out: `size` of them (a number from 1 on, or a share below 1), chosen by the seed. The
 * result answers by a row's number, from 0. Throws UserError where nothing would be left to train on.
 */
export function heldOutRows(rows: number, size: number, seed: number): (row: number) => boolean {
  const count = size < 1 ? Math.max(1, Math.round(size * rows)) : size;
  if (count >= rows) {
    throw new UserError(`evalSplit holds out ${count} of ${rows} rows, which leaves none to train on`);
  }
  const chosen = new Uint8Array(rows);
  for (const row of new Rng(seed, 'held-out rows').order(rows).subarray(0, count)) chosen[row] = 1;
  return (row) => chosen[row] === 1;
}
