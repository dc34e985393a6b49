/** Numbers that are NaN or infinite: where they are found, nothing that comes of them means anything. */
import { UserError } from './errors.js';
import type { WeightDType } from './tensor.js';

const EXPONENT = 0x7f800000;

/** How many of `values` are NaN or infinite. */
export function countNonFinite(values: Float32Array): number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let count = 0;
  for (let i = 0; i < bits.length; i++) if ((bits[i] & EXPONENT) === EXPONENT) count++;
  return count;
}

/** As countNonFinite, of values as they lie in a file. */
export function countNonFiniteBytes(bytes: Uint8Array, dtype: WeightDType): number {
  const { exponent, stride } = LAYOUTS[dtype];
  // The half of a number that holds its exponent is the last, in the order of bytes in files.
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.length / 2);
  let count = 0;
  for (let i = stride - 1; i < halves.length; i += stride) if ((halves[i] & exponent) === exponent) count++;
  return count;
}

/** Bits of the exponent in the uppermost 16 bits of a number, and how many such halves it has. */
const LAYOUTS: Readonly<Record<WeightDType, { exponent: number; stride: number }>> = {
  float32: { exponent: 0x7f80, stride: 2 },
  bfloat16: { exponent: 0x7f80, stride: 1 },
  float16: { exponent: 0x7c00, stride: 1 },
  float64: { exponent: 0x7ff0, stride: 4 },
};

/** "3 of its 1024 values are NaN or infinite" */
export function nonFiniteText(count: number, total: number): string {
  return `${count} of its ${total} values ${count === 1 ? 'is' : 'are'} NaN or infinite`;
}

/** Throws UserError where a tensor that is to be written into `path` holds a value that is not finite. */
export function refuseWritingNonFinite(
  path: string,
  name: string,
  bytes: Uint8Array,
  dtype: WeightDType,
): void {
  const count = countNonFiniteBytes(bytes, dtype);
  if (count === 0) return;
  const total = bytes.length / (2 * LAYOUTS[dtype].stride);
  const hint = dtype === 'float16' ? '; float16 ends at 65504, bfloat16 and float32 do not' : '';
  throw new UserError(`cannot write ${path}: tensor "${name}": ${nonFiniteText(count, total)}${hint}`);
}

/** Throws UserError where a tensor holds a value that is not finite. `place` names its file, or what is done with it. */
export function refuseNonFinite(place: string, name: string, values: Float32Array): void {
  const count = countNonFinite(values);
  if (count > 0) throw new UserError(`${place}: tensor "${name}": ${nonFiniteText(count, values.length)}`);
}
