import { UserError } from '../base/errors.js';
import type { TrainOptions } from './options.js';

type Patience = Pick<TrainOptions, 'evalSteps' | 'earlyStoppingPatience' | 'earlyStoppingThreshold'>;

/** How many evaluations in a row were no better than the best before them, after one more with `loss`. */
export function staleAfter(
  loss: number,
  { best, stale }: { best: { loss: number } | null; stale: number },
  { earlyStoppingThreshold }: Patience,
): number {
  return best === null || loss < best.loss - earlyStoppingThreshold ? 0 : stale + 1;
}

/** Whether a run with that many stale evaluations is to end (transformers' EarlyStoppingCallback). */
export function outOfPatience(stale: number, { earlyStoppingPatience }: Patience): boolean {
  return earlyStoppingPatience !== undefined && stale >= earlyStoppingPatience;
}

/** Throws UserError where early stopping is asked for but nothing would be evaluated on the way. */
export function checkPatience({ earlyStoppingPatience, evalSteps }: Patience, evaluates: boolean): void {
  if (earlyStoppingPatience === undefined) return;
  if (!evaluates) throw new UserError('earlyStoppingPatience needs held-out rows: evalData or evalSplit');
  if (evalSteps === 0) throw new UserError('earlyStoppingPatience needs evaluations on the way: evalSteps');
}
