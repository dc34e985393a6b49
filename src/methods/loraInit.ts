/** How LoRA's matrices start. None of these changes the base. */

import { UserError } from '../base/errors.js';
import { matrix, toFloat32, transpose } from '../base/linalg/matrix.js';
import { minorLeftVectors } from '../base/linalg/minor.js';
import { Rng } from '../base/rng.js';
import { matrixName, type Site } from '../models/model.js';
import { checkRank } from '../models/rankLimit.js';
import type { Trainable } from './method.js';
import { normalStart, uniformStart } from './starts.js';

/**
 * As PEFT names them. true: A uniform (Kaiming with a = √5), B zero; "gaussian": A ~ N(0, 1/r²), B zero; "orthogonal":
 * both random, with B·A = 0; "mica": B the last r left singular vectors of the base's matrix, kept as they are, and A zero
 * (Minor Component Adaptation, arXiv:2604.01694); "eva": A out of the data, by planEva, B zero; false: both random. But
 * for "mica", an embedding has A zero and B ~ N(0, 1), or with false both ~ N(0, 1).
 */
export type InitLoraWeights = boolean | 'gaussian' | 'eva' | 'orthogonal' | 'mica';

type Start = NonNullable<Trainable['init']>;

/** The starts of A [r, in] and B [out, r] of a linear site. Throws UserError on an orthogonal start of odd rank. */
export function linearStarts(init: InitLoraWeights, site: Site, r: number): { a: Start; b: Start } {
  const sizeA = r * site.in;
  const sizeB = site.out * r;
  const zeros = () => new Float32Array(sizeB);
  // Kaiming uniform with a = √5 over fan-in n is U(-1/√n, 1/√n).
  const a = uniformStart(sizeA, 1 / Math.sqrt(site.in));
  switch (init) {
    case true:
      return { a, b: zeros };
    case false:
      return { a, b: uniformStart(sizeB, 1 / Math.sqrt(r)) };
    case 'gaussian':
      return { a: normalStart(sizeA, 1 / r), b: zeros };
    case 'eva':
      return { a: () => withoutData(site), b: zeros };
    case 'orthogonal':
      return orthogonalStarts(site, r);
    case 'mica':
      return { a: () => new Float32Array(sizeA), b: minorStart(site, r) };
  }
}

/** The starts of A [r, vocabulary] and B [width, r] of an embedding. */
export function embeddingStarts(init: InitLoraWeights, site: Site, r: number): { a: Start; b: Start } {
  const sizeA = r * site.in;
  if (init === 'mica') return { a: () => new Float32Array(sizeA), b: minorStart(site, r) };
  if (init === 'eva') return { a: () => withoutData(site), b: () => withoutData(site) };
  return {
    a: init === false ? normalStart(sizeA) : () => new Float32Array(sizeA),
    b: normalStart(site.out * r),
  };
}

function withoutData({ name }: Site): never {
  throw new UserError(
    `init_lora_weights "eva" starts ${name} out of the data: plan it first (model.planEva)`,
  );
}

/** B [out, r] in the directions of the output in which the base's matrix does least. */
function minorStart(site: Site, r: number): Start {
  return async (_, base) => {
    checkRank('r', r, site);
    const weight = await base(matrixName(site));
    const w =
      site.kind === 'embedding'
        ? transpose(matrix(site.in, site.out, weight))
        : matrix(site.out, site.in, weight);
    return toFloat32(minorLeftVectors(w, r));
  };
}

/**
 * A = Q₁ᵀ·X/10 and B = Y·Q₂/10 with X [r/2, in] and Y [out, r/2] of N(0, 1), where Q₁ and Q₂ [r/2, r] are the rows, taken
 * in turns, of a random orthogonal matrix: B·A = Y·Q₂·Q₁ᵀ·X/100 = 0.
 */
function orthogonalStarts(site: Site, r: number): { a: Start; b: Start } {
  if (r % 2 !== 0) {
    throw new UserError(`init_lora_weights "orthogonal" needs an even rank, and ${site.name} has ${r}`);
  }
  // Both starts need the same matrix, and each has its own generator: so it goes by the site alone.
  const q = () => orthogonal(r, new Rng(0, `orthogonal ${site.name}`));
  const half = r / 2;
  return {
    a: (rng) => {
      const [rows, x] = [q(), normalStart(half * site.in)(rng)];
      const values = new Float32Array(r * site.in);
      for (let i = 0; i < r; i++) {
        for (let k = 0; k < half; k++) {
          const factor = rows[2 * k][i] / 10;
          for (let j = 0; j < site.in; j++) values[i * site.in + j] += factor * x[k * site.in + j];
        }
      }
      return values;
    },
    b: (rng) => {
      const [rows, y] = [q(), normalStart(site.out * half)(rng)];
      return Float32Array.from({ length: site.out * r }, (_, at) => {
        const [i, j] = [Math.floor(at / r), at % r];
        let total = 0;
        for (let k = 0; k < half; k++) total += y[i * half + k] * rows[2 * k + 1][j];
        return total / 10;
      });
    },
  };
}

/** Rows of a random orthogonal matrix [n, n]: Gram–Schmidt over N(0, 1), twice, so that rounding does not show. */
function orthogonal(n: number, rng: Rng): Float64Array[] {
  const rows: Float64Array[] = [];
  while (rows.length < n) {
    const row = Float64Array.from({ length: n }, () => rng.normal());
    for (const known of [...rows, ...rows]) {
      const along = row.reduce((sum, x, i) => sum + x * known[i], 0);
      for (let i = 0; i < n; i++) row[i] -= along * known[i];
    }
    const length = Math.hypot(...row);
    rows.push(row.map((x) => x / length));
  }
  return rows;
}
