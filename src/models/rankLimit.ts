import { UserError } from '../base/errors.js';
import type { Site } from './model.js';

/**
 * Refuses a rank beyond the smaller side of a site's matrix, for a start that takes as many directions out of it. `what` is
 * what the rank is called. Throws UserError.
 */
export function checkRank(
  what: string,
  r: number,
  { name, in: width, out }: Pick<Site, 'name' | 'in' | 'out'>,
): void {
  const most = Math.min(width, out);
  if (r <= most) return;
  throw new UserError(
    `${what} ${r} is larger than ${name} allows: its matrix is ${out} × ${width}; lower it to ${most}`,
  );
}
