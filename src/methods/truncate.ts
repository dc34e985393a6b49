import * as z from 'zod';
import {
  energy as energyOf,
  firstColumns,
  firstRows,
  type Matrix,
  scaleColumns,
  scaleRows,
  toFloat32,
} from '../base/linalg/matrix.js';
import { leading, type Svd, svdByGram, truncatedSvd } from '../base/linalg/svd.js';
import type { AdapterTensor } from '../formats/peft.js';

/** How much of a change an adapter is to hold. */
export const truncationShape = {
  r: z.int().positive().default(16).describe('the largest rank of a layer'),
  energy: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .describe("give each layer the lowest rank that holds this share of its change's energy, up to --r"),
};
export type Truncation = z.output<z.ZodObject<typeof truncationShape>>;

/** What became of one layer. */
export interface TruncatedLayer {
  site: string;
  out: number;
  in: number;
  r: number;
  /** ‖change‖, by the Frobenius norm, and the share of its square that rank r holds. */
  norm: number;
  captured: number;
}

/**
 * The rank for a change of which `s` are the largest singular values and `total` = ‖change‖²: that of the energy asked
 * for, or r where it is lower or none was asked for; never of directions that are zero.
 */
export function rankFor(s: ArrayLike<number>, total: number, { r, energy }: Truncation): number {
  const limit = Math.min(r, s.length);
  let held = 0;
  for (let rank = 0; rank < limit; rank++) {
    if (s[rank] === 0 || (energy !== undefined && held >= energy * total)) return Math.max(1, rank);
    held += s[rank] ** 2;
  }
  return limit;
}

/** Of a matrix that is at hand in full so many directions are looked for first, where its energy decides. */
const FIRST = 64;

/** The leading part of a matrix, of at most r directions: as many as hold the energy, or r where none is asked for. */
export function leadingPart(change: Matrix, { r, energy }: Truncation): Svd {
  const smaller = Math.min(change.rows, change.columns);
  const most = Math.min(r, smaller);
  if (energy === undefined) return truncatedSvd(change, most);
  const total = energyOf(change.data);
  for (let count = Math.min(FIRST, most); ; count = Math.min(2 * count, most)) {
    const isLarge = 2 * count > smaller;
    const found = isLarge ? leading(svdByGram(change), most) : truncatedSvd(change, count);
    if (isLarge || count === most || energyOf(found.s) >= energy * total) return found;
  }
}

/** A and B of rank r whose product is the leading part of an SVD, each with the root of the singular values. */
export function factorsOf(svd: Svd, r: number): { a: AdapterTensor; b: AdapterTensor } {
  const { u, s, vt } = leading(svd, r);
  const roots = s.map(Math.sqrt);
  return {
    a: { shape: [r, vt.columns], data: toFloat32(scaleRows(firstRows(vt, r), roots)) },
    b: { shape: [u.rows, r], data: toFloat32(scaleColumns(firstColumns(u, r), roots)) },
  };
}

/** The share of `total` that the first r singular values hold; 1 of nothing. */
export function capturedBy(s: Float64Array, total: number, r: number): number {
  return total === 0 ? 1 : Math.min(1, energyOf(s.subarray(0, r)) / total);
}

/** r, rank_pattern and the α's of a scale of 1 at every layer. */
export function ranksConfig(ranks: ReadonlyMap<string, number>): {
  r: number;
  lora_alpha: number;
  rank_pattern: Record<string, number>;
  alpha_pattern: Record<string, number>;
} {
  const r = Math.max(...ranks.values());
  const pattern = Object.fromEntries([...ranks].filter(([, rank]) => rank !== r));
  return { r, lora_alpha: r, rank_pattern: pattern, alpha_pattern: pattern };
}
