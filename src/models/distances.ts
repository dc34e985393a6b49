/** Tables of where positions stand to one another. */
import type { Distances } from './architecture.js';

/**
 * Index of each distance i − j, [length, length], in a table of 2·span (He et al., arXiv:2006.03654, section 3.1; the scale of
 * DeBERTa v2). In float32 as PyTorch computes it: one rounding away an index would be another.
 */
export function distanceIndices(length: number, distances: Distances): Int32Array {
  const table = Int32Array.from({ length: 2 * length - 1 }, (_, i) => indexOf(i - length + 1, distances));
  return Int32Array.from({ length: length * length }, (_, at) => {
    const [i, j] = [Math.floor(at / length), at % length];
    return table[i - j + length - 1];
  });
}

/** The index of each distance from −n to n, where n is so far that all further ones share theirs. */
export function distanceScale(distances: Distances): Int32Array {
  let n = 1;
  while (indexOf(-n, distances) > 0 || indexOf(n, distances) < 2 * distances.span - 1) n++;
  return Int32Array.from({ length: 2 * n + 1 }, (_, i) => indexOf(i - n, distances));
}

function indexOf(distance: number, { span, furthest }: Distances): number {
  const scaled = furthest === null ? distance : bucket(distance, span, furthest);
  return Math.min(2 * span - 1, Math.max(0, span + scaled));
}

/** Distances up to half of `span` stay; from there to `furthest` the other half is a logarithmic scale. */
function bucket(distance: number, span: number, furthest: number): number {
  const middle = Math.floor(span / 2);
  const far = Math.abs(distance);
  if (far <= middle) return distance;
  const f = Math.fround;
  const share = f(f(Math.log(f(far / middle))) / f(Math.log(f((furthest - 1) / middle))));
  return Math.sign(distance) * (Math.ceil(f(share * (middle - 1))) + middle);
}

/**
 * For each position the rows, of all positions of all rows of tokens, that lie around it: [rows, length, width]. What is beyond
 * the ends of its row or example, or padding, is at number rows·length.
 */
export function neighbourRows(
  {
    rows,
    length,
    lengths,
    starts,
  }: { rows: number; length: number; lengths: Int32Array; starts?: Int32Array },
  width: number,
): Int32Array {
  const half = (width - 1) / 2;
  return Int32Array.from({ length: rows * length * width }, (_, i) => {
    const at = Math.floor(i / width);
    const row = Math.floor(at / length);
    const column = (at % length) + (i % width) - half;
    const other = row * length + column;
    const isReal = column >= 0 && column < lengths[row] && (!starts || starts[other] === starts[at]);
    return isReal ? other : rows * length;
  });
}
