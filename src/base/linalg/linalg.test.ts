import { QrDecomposition, Matrix as Reference, SingularValueDecomposition } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { Rng } from '../rng.js';
import { singularValues, thinQr } from './index.js';
import { leadingSvd } from './leadingSvd.js';
import {
  firstColumns,
  firstRows,
  type Matrix,
  matrix,
  multiply,
  multiplyRows,
  multiplyTransposed,
  scaleColumns,
  transpose,
} from './matrix.js';
import { qr } from './qr.js';
import { leading, productSvd, type Svd, svd, truncatedSvd } from './svd.js';

function random(rows: number, columns: number, seed = 1): Matrix {
  const rng = new Rng(seed, `${rows}×${columns}`);
  return matrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, () => rng.normal()),
  );
}

/** With singular values 1, decay, decay², … */
function decaying(rows: number, columns: number, decay: number): Matrix {
  const k = Math.min(rows, columns);
  const values = Float64Array.from({ length: k }, (_, i) => decay ** i);
  return multiply(scaleColumns(qr(random(rows, k)).q, values), transpose(qr(random(columns, k, 2)).q));
}

const difference = (a: Matrix, b: Matrix) =>
  a.data.reduce((worst, x, i) => Math.max(worst, Math.abs(x - b.data[i])), 0);
const identity = (n: number) =>
  matrix(
    n,
    n,
    Array.from({ length: n * n }, (_, i) => Number(i % (n + 1) === 0)),
  );
const restored = ({ u, s, vt }: Svd) => multiply(scaleColumns(u, s), vt);
const reference = ({ rows, data, columns }: Matrix) =>
  new Reference(Array.from({ length: rows }, (_, i) => [...data.subarray(i * columns, (i + 1) * columns)]));

const SHAPES = [
  [1, 1],
  [7, 1],
  [1, 7],
  [9, 4],
  [4, 9],
  [20, 20],
  [60, 33],
] as const;

describe.each(SHAPES)('%i × %i', (rows, columns) => {
  const a = random(rows, columns);
  const k = Math.min(rows, columns);

  it('qr', () => {
    const { q, r } = qr(a);
    expect(difference(multiply(q, r), a)).toBeLessThan(1e-13);
    expect(difference(multiplyTransposed(q, q), identity(k))).toBeLessThan(1e-14);
    for (let i = 0; i < k; i++) {
      for (let j = 0; j < i; j++) expect(r.data[i * columns + j]).toBe(0);
    }
    if (rows < columns) return;
    const theirs = new QrDecomposition(reference(a)).upperTriangularMatrix;
    for (let i = 0; i < k; i++) {
      expect(Math.abs(r.data[i * columns + i])).toBeCloseTo(Math.abs(theirs.get(i, i)), 12);
    }
  });

  it('svd', () => {
    const result = svd(a);
    expect(difference(restored(result), a)).toBeLessThan(1e-13);
    expect(difference(multiplyTransposed(result.u, result.u), identity(k))).toBeLessThan(1e-13);
    expect(difference(multiply(result.vt, transpose(result.vt)), identity(k))).toBeLessThan(1e-13);
    const theirs = new SingularValueDecomposition(reference(a), { autoTranspose: true }).diagonal;
    for (const [i, s] of result.s.entries()) expect(s).toBeCloseTo(theirs[i], 12);
  });
});

describe('qr', () => {
  it("has LAPACK's signs", () => {
    // torch.linalg.qr([[3, 1], [4, 2]]) and of [[-3, 1], [4, 2]]; the last diagonal element has nothing below it.
    const first = qr(matrix(2, 2, [3, 1, 4, 2]));
    expect([...first.r.data].map((x) => Number(x.toFixed(9)))).toEqual([-5, -2.2, 0, 0.4]);
    const second = qr(matrix(2, 2, [-3, 1, 4, 2]));
    expect([...second.r.data].map((x) => Number(x.toFixed(9)))).toEqual([5, 1, 0, 2]);
    expect(qr(identity(3)).r).toEqual(identity(3));
  });
  it('gives its first columns and rows alone', () => {
    const a = random(12, 8);
    const whole = qr(a);
    const { q, r } = qr(a, 3);
    expect(difference(q, firstColumns(whole.q, 3))).toBeLessThan(1e-15);
    expect(r).toEqual(firstRows(whole.r, 3));
  });
  it.each([
    [1, 3],
    [2, 4],
    [5, 7],
    [4, 9],
    [3, 12],
  ])('multiplies %i rows by %i as it is defined', (m, n) => {
    const [a, b] = [random(m, 6), random(n, 6, 2)];
    const row = ({ data }: Matrix, i: number) => data.subarray(i * 6, i * 6 + 6);
    const expected = Array.from({ length: m * n }, (_, at) => {
      const right = row(b, at % n);
      return row(a, Math.floor(at / n)).reduce((sum, x, k) => sum + x * right[k], 0);
    });
    expect([...multiplyRows(a, b).data]).toEqual(expected);
  });
  it('refuses sizes that do not meet', () => {
    expect(() => matrix(2, 2, [1])).toThrow('1 elements do not fill 2 × 2');
    expect(() => multiply(random(2, 3), random(2, 3))).toThrow('sizes 3 and 2 do not meet');
  });
});

describe('svd', () => {
  it('gets small singular values to their own precision', () => {
    const { s } = svd(decaying(30, 12, 0.1));
    for (const [i, value] of s.entries())
      expect(Math.abs(value / 0.1 ** i - 1)).toBeLessThan(10 ** (i - 14.5));
  });
  it('of a matrix of low rank, and of zeros', () => {
    const low = multiply(random(12, 2), random(2, 9));
    const { u, s, vt } = svd(low);
    expect(difference(restored({ u, s, vt }), low)).toBeLessThan(1e-13);
    expect(s[1]).toBeGreaterThan(1);
    expect(s[2]).toBeLessThan(1e-13);
    const zero = svd(matrix(4, 3));
    expect([...zero.s, ...zero.u.data, ...zero.vt.data].every((x) => x === 0)).toBe(true);
  });
});

describe('truncatedSvd', () => {
  it('is the exact one where values fall off', () => {
    const a = decaying(120, 80, 0.8);
    const exact = leading(svd(a), 6);
    const found = truncatedSvd(a, 6);
    for (const [i, s] of found.s.entries()) expect(Math.abs(s / exact.s[i] - 1)).toBeLessThan(1e-12);
    expect(difference(restored(found), restored(exact))).toBeLessThan(1e-9);
    expect(difference(multiplyTransposed(found.u, found.u), identity(6))).toBeLessThan(1e-13);
  });
  it('comes closer with each iteration where they do not', () => {
    const a = random(100, 90);
    const exact = leading(svd(a), 5);
    const error = (iterations: number) =>
      difference(restored(truncatedSvd(a, 5, { iterations })), restored(exact));
    expect(error(1)).toBeGreaterThan(1e-3);
    expect(error(60)).toBeLessThan(error(8));
    expect(error(60)).toBeLessThan(1e-3);
  });
  it('depends on nothing but its seed', () => {
    const a = random(70, 80);
    expect(truncatedSvd(a, 3, { seed: 4 })).toEqual(truncatedSvd(a, 3, { seed: 4 }));
    expect(truncatedSvd(a, 3, { seed: 4 })).not.toEqual(truncatedSvd(a, 3, { seed: 5 }));
  });
  it('is exact where the matrix is small, or it follows every direction', () => {
    const a = random(30, 10);
    expect(truncatedSvd(a, 4)).toEqual(leading(svd(a), 4));
    const b = random(70, 66);
    expect(truncatedSvd(b, 60)).toEqual(leading(svd(b), 60));
    expect(() => truncatedSvd(a, 11)).toThrow('rank 11 is more than 30 × 10 has');
  });
});

describe('productSvd', () => {
  it.each([
    [40, 3, 25],
    [6, 6, 30],
    [4, 7, 5],
    [130, 100, 120],
    [110, 140, 105],
  ])('of %i × %i × %i is that of the product', (m, r, n) => {
    const [b, a] = [random(m, r), random(r, n)];
    const product = multiply(b, a);
    const found = productSvd(b, a);
    const exact = svd(product);
    expect(difference(restored(found), product)).toBeLessThan(1e-12);
    for (const [i, s] of found.s.entries()) expect(Math.abs(s - exact.s[i])).toBeLessThan(1e-9 * exact.s[0]);
    expect(difference(multiplyTransposed(found.u, found.u), identity(found.s.length))).toBeLessThan(1e-7);
  });
  it('of factors whose product has a lower rank than they: zeros behind', () => {
    const b = multiply(random(120, 5), random(5, 110));
    const { u, s, vt } = productSvd(b, random(110, 130));
    expect(s.indexOf(0)).toBe(5);
    expect(firstColumns(transpose(vt), 6).data.filter((x) => x === 0)).toHaveLength(130);
    expect(u.columns).toBe(110);
  });
});

describe('the float32 door', () => {
  it('rounds what float64 gives', () => {
    const data = Float32Array.of(3, 1, 4, 2);
    const { q, r } = thinQr(data, 2, 2);
    expect(q).toEqual(Float32Array.of(-0.6, -0.8, -0.8, 0.6));
    expect([...r].map((x) => Number(x.toFixed(6)))).toEqual([-5, -2.2, 0, 0.4]);
    const [first, second] = singularValues(data, 2, 2);
    expect(first * second).toBeCloseTo(2, 12);
    expect(first ** 2 + second ** 2).toBeCloseTo(30, 12);
  });
});

describe('leadingSvd', () => {
  it.each([
    ['flat, wide', random(120, 150), 5],
    ['flat, tall', random(160, 110), 7],
    ['flat, large', random(330, 340), 4],
    ['falling, large', decaying(350, 330, 0.97), 4],
    ['falling', decaying(200, 130, 0.98), 4],
    ['of low rank', multiply(random(140, 6), random(6, 120)), 6],
    ['most directions', random(100, 120), 60],
    ['small', random(40, 30), 3],
  ])('is the exact one however close the values lie: %s', (_, a, rank) => {
    const exact = leading(svd(a), rank);
    const found = leadingSvd(a, rank);
    for (const [i, s] of found.s.entries()) expect(Math.abs(s / exact.s[i] - 1)).toBeLessThan(1e-12);
    expect(difference(restored(found), restored(exact))).toBeLessThan(1e-8);
  });
  it('refuses more than there are', () => {
    expect(() => leadingSvd(random(10, 30), 11)).toThrow('rank 11 is more than 10 × 30 has');
  });
});
