/** Numbers that are NaN or infinite: where they are found, nothing that comes of them means anything. */
import { UserError } from './errors.js';

const EXPONENT = 0x7f800000;

/** How many of `values` are NaN or infinite. */
export function countNonFinite(values: Float32Array): number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let count = 0;
  for (let i = 0; i < bits.length; i++) if ((bits[i] & EXPONENT) === EXPONENT) count++;
  return count;
}

/** "3 of its 1024 values are NaN or infinite" */
export function nonFiniteText(count: number, total: number): string {
  return `${count} of its ${total} values ${count === 1 ? 'is' : 'are'} NaN or infinite`;
}

/** Throws UserError where a tensor holds a value that is not finite. `place` names its file, or what is done with it. */
export function refuseNonFinite(place: string, name: string, values: Float32Array): void {
  const count = countNonFinite(values);
  if (count > 0) throw new UserError(`${place}: tensor "${name}": ${nonFiniteText(count, values.length)}`);
}
