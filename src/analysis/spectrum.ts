/** Singular values of a change, and how many of them there are in effect. */
import {
  energy,
  type Factors,
  multiply,
  multiplyRows,
  multiplyTransposed,
  scaleRows,
  transpose,
} from '../base/linalg/matrix.js';
import { leading, productSvd, type Svd } from '../base/linalg/svd.js';
import { symmetricEigen } from '../base/linalg/symmetric.js';
import { leadingSvd, type Update } from './operator.js';

/** All singular values of a dense change are computed where its smaller side is no larger than this. */
export const WHOLE_SPECTRUM = 1024;

/** Of a larger one so many. */
const LEADING = 64;

/** Singular values of a change, and the vectors of the largest. */
export interface Spectrum {
  /** Largest first: all that may differ from 0, or where `complete` is false the leading ones. */
  readonly values: Float64Array;
  readonly complete: boolean;
  /** ‖ΔW‖_F */
  readonly norm: number;
  /** Directions that it can have: the rank of its factors, or its smaller side. */
  readonly rank: number;
  /** Of the first of `values`: u [out, k], s, vt [k, in]. Where a value is 0, the vectors may be too. */
  readonly top: Svd;
}

/** The spectrum of a change, with the vectors of its `directions` largest singular values, or of all where it has fewer. */
export async function spectrumOf(update: Update, directions: number, seed = 0): Promise<Spectrum> {
  if (update.kind === 'product') {
    const whole = productSvd(update.b, update.a);
    const values = whole.s;
    const top = leading(whole, Math.min(directions, values.length));
    return { values, complete: true, norm: Math.sqrt(energy(values)), rank: values.length, top };
  }
  const { change } = update;
  const rank = Math.min(change.rows, change.columns);
  const complete = rank <= WHOLE_SPECTRUM;
  const count = Math.min(rank, complete ? directions : Math.max(directions, LEADING));
  const found = await leadingSvd(change, count, { seed });
  const values = complete
    ? symmetricEigen(await change.gram(), 'values').map((value) => Math.sqrt(Math.max(0, value)))
    : found.s;
  return { values, complete, norm: change.norm, rank, top: leading(found, Math.min(directions, count)) };
}

/**
 * The singular values of b·a alone, largest first, by the Gram matrices of the two: sooner than by `spectrumOf`, and exact to 1e-8
 * of the largest.
 */
export function productValues({ b, a }: Factors): Float64Array {
  const count = Math.min(b.rows, a.rows, a.columns);
  // With b'b = V·D·V' the values of b·a are those of √D·V'·a, and their squares the eigenvalues of (√D·V')·aa'·(√D·V')'.
  const { values, vectors } = symmetricEigen(multiplyTransposed(b, b), 'vectors');
  const half = scaleRows(
    vectors,
    values.map((value) => Math.sqrt(Math.max(0, value))),
  );
  const squares = symmetricEigen(multiply(multiply(half, multiplyRows(a, a)), transpose(half)), 'values');
  return squares.slice(0, count).map((value) => Math.sqrt(Math.max(0, value)));
}

/** How many singular values there are, where those that are next to nothing count as such. */
export interface EffectiveRanks {
  /** exp of the entropy of σ/Σσ (Roy & Vetterli 2007); null where not all σ are known. */
  entropy: number | null;
  /** ‖ΔW‖_F²/σ₁² (Rudelson & Vershynin 2007). */
  stable: number;
  /** The fewest directions that hold 90% and 99% of ‖ΔW‖_F²; null where more σ would have to be known. */
  of90: number | null;
  of99: number | null;
}

/** All of them are 0 where the change is. */
export function effectiveRanks({
  values,
  complete,
  norm,
}: Pick<Spectrum, 'values' | 'complete' | 'norm'>): EffectiveRanks {
  if (norm === 0) return { entropy: 0, stable: 0, of90: 0, of99: 0 };
  const total = values.reduce((sum, value) => sum + value, 0);
  let entropy = 0;
  for (const value of values) if (value > 0) entropy -= (value / total) * Math.log(value / total);
  return {
    entropy: complete ? Math.exp(entropy) : null,
    stable: (norm / values[0]) ** 2,
    of90: holding(0.9, values, norm),
    of99: holding(0.99, values, norm),
  };
}

/** Rounding of a sum of squares does not ask for one direction more. */
const ROUNDING = 1e-12;

/** The fewest directions that hold a share of ‖ΔW‖_F²; null where more σ would have to be known. */
export function holding(share: number, values: ArrayLike<number>, norm: number): number | null {
  const wanted = (share - ROUNDING) * norm ** 2;
  let held = 0;
  for (let i = 0; i < values.length; i++) {
    held += values[i] ** 2;
    if (held >= wanted) return i + 1;
  }
  return null;
}
