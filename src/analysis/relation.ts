/** How a change relates to the matrix that it is added to: Table 7 of the paper. */
import { energy, firstColumns, firstRows, type Matrix, multiply, transpose } from '../base/linalg/matrix.js';
import type { Svd } from '../base/linalg/svd.js';
import type { Operator } from './operator.js';
import { randomDirections } from './subspace.js';

/** ‖UᵀWVᵀ‖_F, what W has of the space between r directions on both sides, for three choices of them; and norms. */
export interface Relation {
  /** r */
  directions: number;
  /** Of ΔW's largest singular directions. */
  ofChange: number;
  /** Of W's own, which is the most that it can be. */
  ofWeight: number;
  /** Of random ones. */
  ofRandom: number;
  /** ‖W‖_F and ‖ΔW‖_F. */
  weightNorm: number;
  changeNorm: number;
  /** ‖ΔW‖_F / ‖UᵀWVᵀ‖_F over ΔW's directions: how much more of them there is now; null where W has nothing of them. */
  amplification: number | null;
}

interface Given {
  /** ΔW's and W's r largest singular values and vectors at least. */
  change: Svd;
  weight: Svd;
  weightNorm: number;
  changeNorm: number;
  seed: number;
  /** Names the random directions. */
  name: string;
}

/** Below this part of ‖W‖_F a projection is what rounding leaves of it. */
const NOTHING = 1e-7;

/** The relation over as many directions as both have vectors of. */
export async function relationOf(
  w: Operator,
  { change, weight, weightNorm, changeNorm, seed, name }: Given,
): Promise<Relation> {
  const r = Math.min(change.s.length, weight.s.length);
  const ofChange = await projected(w, firstColumns(change.u, r), firstRows(change.vt, r));
  const random = (side: 'left' | 'right', size: number) => randomDirections(r, size, seed, `${name} ${side}`);
  const left = random('left', w.rows);
  const ofRandom = await projected(w, transpose(left), random('right', w.columns));
  return {
    directions: r,
    ofChange,
    ofWeight: Math.sqrt(energy(weight.s.subarray(0, r))),
    ofRandom,
    weightNorm,
    changeNorm,
    amplification: ofChange > NOTHING * weightNorm ? changeNorm / ofChange : null,
  };
}

/** ‖UᵀWVᵀ‖_F of u [out, r] and vt [r, in]. */
async function projected(w: Operator, u: Matrix, vt: Matrix): Promise<number> {
  return Math.sqrt(energy(multiply(await w.apply(vt), u).data));
}
