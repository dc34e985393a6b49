import { describe, expect, it } from 'vitest';
import {
  energy,
  type Factors,
  firstRows,
  type Matrix,
  matrix,
  multiply,
  scaleColumns,
  transpose,
} from '../base/linalg/matrix.js';
import { qr } from '../base/linalg/qr.js';
import { productSvd, svd } from '../base/linalg/svd.js';
import { Rng } from '../base/rng.js';
import { intrudersOf } from './intruders.js';
import { analyzeModule, type ModuleAnalysis, placeOf } from './module.js';
import { type Dense, denseOf, leadingSvd, operatorOf, type Update } from './operator.js';
import { medianOf, rolesOf, sharesOf } from './report.js';
import { effectiveRanks, productValues, spectrumOf } from './spectrum.js';
import { expectedSimilarity, grassmannDistance, randomDirections, similarity } from './subspace.js';

function random(rows: number, columns: number, stream: string): Matrix {
  const rng = new Rng(7, stream);
  return matrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, () => rng.normal()),
  );
}

const [OUT, IN] = [100, 130];
/** A matrix whose singular values fall slowly, as those of real ones. */
const values = Float64Array.from({ length: OUT }, (_, i) => 10 / (1 + i / 8));
const left = qr(random(OUT, OUT, 'left')).q;
const right = transpose(qr(random(IN, OUT, 'right')).q);
const W = multiply(scaleColumns(left, values), right);

/** Σ size·u_i·v_iᵀ over some of W's own directions, as factors. */
function along(directions: readonly number[], size: number): Factors {
  const b = matrix(OUT, directions.length);
  const a = matrix(directions.length, IN);
  for (const [k, i] of directions.entries()) {
    for (let row = 0; row < OUT; row++) b.data[row * directions.length + k] = size * left.data[row * OUT + i];
    a.data.set(right.data.subarray(i * IN, (i + 1) * IN), k * IN);
  }
  return { b, a };
}

const product = (factors: Factors): Update => ({ kind: 'product', ...factors });
const dense = ({ b, a }: Factors): Update => ({ kind: 'dense', change: denseOf(multiply(b, a)) });
const analyzed = (update: Update, other?: Update, options: Parameters<typeof analyzeModule>[4] = {}) =>
  analyzeModule('model.layers.3.self_attn.q_proj', denseOf(W), update, other, options);

describe('a change that is built of directions of W', () => {
  const chosen = [20, 21, 40, 60];

  it('amplifies them by what it was built with', async () => {
    const { relation, change } = await analyzed(product(along(chosen, 3)));
    const own = Math.sqrt(chosen.reduce((sum, i) => sum + values[i] ** 2, 0));
    expect(relation.directions).toBe(4);
    expect(relation.ofChange).toBeCloseTo(own, 8);
    expect(relation.changeNorm).toBeCloseTo(6, 10);
    expect(relation.amplification).toBeCloseTo(6 / own, 8);
    expect(relation.ofWeight).toBeCloseTo(Math.sqrt(energy(values.subarray(0, 4))), 5);
    expect(relation.weightNorm).toBeCloseTo(Math.sqrt(energy(values)), 8);
    expect(change.share).toBeCloseTo(6 / Math.sqrt(energy(values)), 8);
    // Four equal singular values: four directions by every count.
    expect(change.entropy).toBeCloseTo(4, 8);
    expect(change.stable).toBeCloseTo(4, 8);
    expect([change.of90, change.of99]).toEqual([4, 4]);
  });

  it('random directions have r·‖W‖/√(out·in) of it on average', async () => {
    let sum = 0;
    for (let seed = 0; seed < 40; seed++) {
      sum += (await analyzed(product(along(chosen, 1)), undefined, { seed })).relation.ofRandom ** 2;
    }
    const expected = (4 * Math.sqrt(energy(values))) / Math.sqrt(OUT * IN);
    expect(Math.sqrt(sum / 40) / expected).toBeGreaterThan(0.8);
    expect(Math.sqrt(sum / 40) / expected).toBeLessThan(1.25);
  });

  it('has no amplification where W has nothing of its directions', async () => {
    const flat = denseOf(
      multiply(
        scaleColumns(
          left,
          values.map((x, i) => (i < 50 ? x : 0)),
        ),
        right,
      ),
    );
    const { relation } = await analyzeModule('x', flat, product(along([70, 80], 1)), undefined);
    expect(relation.amplification).toBeNull();
  });

  it('is the same as product and as the matrix that it fills', async () => {
    const factors = { b: random(OUT, 5, 'b'), a: random(5, IN, 'a') };
    const [one, two] = [
      await analyzed(product(factors), undefined, { directions: 5 }),
      await analyzed(dense(factors), undefined, { directions: 5 }),
    ];
    expect(two.change).toMatchObject({
      kind: 'dense',
      rank: OUT,
      complete: true,
      of90: one.change.of90,
      of99: one.change.of99,
    });
    for (const [i, value] of one.change.values.entries()) expect(two.change.values[i]).toBeCloseTo(value, 8);
    expect(Math.max(...two.change.values.slice(5))).toBeLessThan(1e-5);
    expect(two.change.norm).toBeCloseTo(one.change.norm, 8);
    expect(two.change.stable).toBeCloseTo(one.change.stable, 8);
    expect(two.change.entropy! / one.change.entropy!).toBeCloseTo(1, 4);
    expect(two.intruders).toEqual(one.intruders);
    for (const key of ['ofChange', 'ofWeight', 'ofRandom', 'amplification'] as const) {
      expect(two.relation[key]).toBeCloseTo(one.relation[key]!, 6);
    }
    // A and B of a dense change are ΔW's own directions, and these span the same.
    const other = await analyzed(product(factors), dense(factors), { directions: 5 });
    for (const side of [other.similarity.a, other.similarity.b]) {
      expect(side.phi[4][4]).toBeCloseTo(1, 8);
      expect(side.distance).toBeLessThan(1e-6);
    }
  });

  it('of zero has no directions, and nothing fails', async () => {
    const zero = product({ b: matrix(OUT, 3), a: random(3, IN, 'a') });
    for (const update of [zero, product({ b: matrix(OUT, 0), a: matrix(0, IN) })]) {
      const { change, relation, similarity: control, intruders } = await analyzed(update);
      expect(change).toMatchObject({ norm: 0, share: 0, entropy: 0, stable: 0, of90: 0, of99: 0 });
      expect(relation).toMatchObject({ ofChange: 0, amplification: null });
      expect(control.b).toEqual({ phi: [], distance: 0, most: 0 });
      expect(intruders.count).toBe(0);
    }
  });
});

describe('subspaces', () => {
  const rows = transpose(left);
  const some = (...indices: number[]) => ({
    rows: indices.length,
    columns: OUT,
    data: Float64Array.from(indices.flatMap((i) => [...rows.data.subarray(i * OUT, (i + 1) * OUT)])),
  });

  it('that are equal have φ 1 and distance 0, however they are turned', () => {
    const turned = multiply(qr(random(4, 4, 'turn')).q, some(1, 2, 3, 4));
    const phi = similarity(some(1, 2, 3, 4), turned);
    expect(phi[3][3]).toBeCloseTo(1, 12);
    expect(similarity(some(1, 2), some(1, 2))[0]).toEqual([expect.closeTo(1, 12), expect.closeTo(1, 12)]);
    expect(grassmannDistance(some(1, 2, 3, 4), turned)).toBeLessThan(1e-6);
    expect(grassmannDistance(some(1), turned)).toBeLessThan(1e-6);
  });

  it('that are orthogonal have φ 0 and the largest distance', () => {
    for (const row of similarity(some(1, 2, 3), some(4, 5))) {
      for (const phi of row) expect(phi).toBeLessThan(1e-20);
    }
    expect(grassmannDistance(some(1, 2, 3), some(4, 5))).toBeCloseTo((Math.SQRT2 * Math.PI) / 2, 8);
  });

  it('that share one of two directions have φ ½, and one right angle between them', () => {
    const phi = similarity(some(1, 2), some(2, 3));
    expect(phi[1][1]).toBeCloseTo(0.5, 12);
    expect(phi[0][1]).toBeCloseTo(0, 12);
    expect(phi[1][0]).toBeCloseTo(1, 12);
    expect(grassmannDistance(some(1, 2), some(2, 3))).toBeCloseTo(Math.PI / 2, 6);
  });

  it('that are random have max(i, j)/d on average', () => {
    const [d, runs] = [60, 200];
    const sums = [0, 0, 0];
    for (let seed = 0; seed < runs; seed++) {
      const phi = similarity(randomDirections(8, d, seed, 'one'), randomDirections(8, d, seed, 'two'));
      sums[0] += phi[0][0] / runs;
      sums[1] += phi[0][7] / runs;
      sums[2] += phi[7][7] / runs;
    }
    for (const [k, [i, j]] of [
      [1, 1],
      [1, 8],
      [8, 8],
    ].entries()) {
      expect(sums[k] / expectedSimilarity(i, j, d)).toBeGreaterThan(0.8);
      expect(sums[k] / expectedSimilarity(i, j, d)).toBeLessThan(1.2);
    }
  });
});

describe('the singular values of a product alone', () => {
  it('are those of its SVD, of factors that depend on each other too', () => {
    const wide = { b: random(20, 30, 'b'), a: random(30, 25, 'a') };
    const poor = { b: multiply(random(20, 2, 'c'), random(2, 6, 'd')), a: random(6, 25, 'e') };
    for (const factors of [wide, poor, { b: matrix(20, 3), a: random(3, 25, 'f') }]) {
      const found = productValues(factors);
      const { s } = productSvd(factors.b, factors.a);
      expect(found).toHaveLength(s.length);
      for (const [i, value] of found.entries())
        expect(Math.abs(value - s[i])).toBeLessThan(1e-6 * (s[0] || 1));
    }
  });
});

describe('effective ranks', () => {
  it('of values that fall', () => {
    const found = effectiveRanks({ values: Float64Array.of(3, 1, 0), complete: true, norm: Math.sqrt(10) });
    const entropy = -(0.75 * Math.log(0.75) + 0.25 * Math.log(0.25));
    expect(found.entropy).toBeCloseTo(Math.exp(entropy), 12);
    expect(found.stable).toBeCloseTo(10 / 9, 12);
    // 9 of 10 are exactly 90%.
    expect([found.of90, found.of99]).toEqual([1, 2]);
  });

  it('are unknown where not enough values are', async () => {
    const found = effectiveRanks({ values: Float64Array.of(3, 1), complete: false, norm: 5 });
    expect(found).toEqual({ entropy: null, stable: expect.closeTo(25 / 9, 12), of90: null, of99: null });
  });
});

/** One whose products cost next to nothing, of any size; its Gram matrix is not to be asked for. */
function diagonal(entries: Float64Array): Dense {
  const scaled = (x: Matrix) => scaleColumns(x, entries);
  return {
    rows: entries.length,
    columns: entries.length,
    norm: Math.sqrt(energy(entries)),
    apply: scaled,
    applyTransposed: scaled,
    gram: () => {
      throw new Error('too large');
    },
  };
}

describe('matrices with more than 1024 rows and columns', () => {
  const size = 1100;
  const w = diagonal(Float64Array.from({ length: size }, (_, i) => 0.9 ** i));

  it('have their leading singular values, and what can be told by these', async () => {
    const spectrum = await spectrumOf({ kind: 'dense', change: w }, 4);
    expect(spectrum).toMatchObject({ complete: false, rank: size, norm: w.norm });
    expect(spectrum.values).toHaveLength(64);
    for (const [i, value] of spectrum.values.slice(0, 20).entries()) expect(value).toBeCloseTo(0.9 ** i, 4);
    expect(spectrum.top.s).toHaveLength(4);
    const { entropy, of90, of99 } = effectiveRanks(spectrum);
    // 1 − 0.81ᵏ of the energy is in the first k.
    expect([entropy, of90, of99]).toEqual([null, 11, 22]);
  });

  it('count as an intruder what only the vectors that are not computed could tell', async () => {
    const spread = {
      b: matrix(size, 1, new Float64Array(size).fill(3)),
      a: matrix(1, size, new Float64Array(size).fill(1 / size)),
    };
    const weight = await leadingSvd(w, 10);
    const found = await intrudersOf(w, operatorOf(product(spread)), weight);
    expect(found).toEqual({ k: 10, epsilon: 0.5, count: 1, against: 10 });
  });
});

describe('intruder dimensions', () => {
  const weight = svd(W);
  const count = async (update: Update, epsilon = 0.5) =>
    (
      await intrudersOf(
        denseOf(W),
        operatorOf(update),
        {
          ...weight,
          u: firstColumnsOf(weight.u, 10),
          s: weight.s.slice(0, 10),
          vt: firstRows(weight.vt, 10),
        },
        { rule: { k: 10, epsilon } },
      )
    ).count;
  const firstColumnsOf = (m: Matrix, k: number) => transpose(firstRows(transpose(m), k));

  it('are none where the change is along W, even where it reorders W', async () => {
    expect(await count(product(along([0, 1], 5)))).toBe(0);
    // Direction 90 becomes the first, and is W's still: more than W's leading vectors is needed to see it.
    expect(await count(product(along([90], 30)))).toBe(0);
  });

  it('are those that lie between many of W', async () => {
    const b = matrix(OUT, 2);
    for (let row = 0; row < OUT; row++) {
      for (let i = 0; i < 50; i++) {
        b.data[row * 2] += left.data[row * OUT + i + 50] * 4;
        b.data[row * 2 + 1] += left.data[row * OUT + i + 50] * 4 * (i % 2 ? -1 : 1);
      }
    }
    const a = firstRows(transpose(qr(random(IN, 2, 'reads')).q), 2);
    expect(await count(product({ b, a }))).toBe(2);
    expect(await count(product({ b, a }), 1e-3)).toBe(0);
  });
});

describe('all layers together', () => {
  const module = (name: string, norm: number) => ({ ...placeOf(name), change: { norm } });

  it('shares by layer and role', () => {
    const shares = sharesOf([
      module('model.layers.10.self_attn.q_proj', 1),
      module('model.layers.2.self_attn.q_proj', 1),
      module('model.layers.2.mlp.up_proj', 2),
      module('model.embed_tokens', 2),
    ]);
    expect(shares.layers).toEqual([
      { layer: 2, share: 0.5 },
      { layer: 10, share: 0.1 },
    ]);
    expect(shares.roles.map(({ role }) => role)).toEqual(['up_proj', 'embed_tokens', 'q_proj']);
    expect(sharesOf([module('lm_head', 0)]).roles).toEqual([{ role: 'lm_head', share: 0 }]);
  });

  it('medians of roles', async () => {
    expect([medianOf([3, 1, 2]), medianOf([4, 1]), medianOf([1, null]), medianOf([])]).toEqual([
      2,
      2.5,
      null,
      null,
    ]);
    const one = await analyzed(product(along([3, 4], 1)));
    const two: ModuleAnalysis = { ...one, name: 'b', change: { ...one.change, share: 3 * one.change.share } };
    const [role] = rolesOf([one, two]);
    expect(role).toMatchObject({
      role: 'q_proj',
      modules: 2,
      rank: [2, 2],
      largest: expect.closeTo(1, 12),
      of90: 2,
      intruders: 0,
    });
    expect(role.share).toBeCloseTo(2 * one.change.share, 12);
  });
});
