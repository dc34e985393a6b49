import { describe, expect, it } from 'vitest';
import { Rng } from '../rng.js';
import { leading, leadingEigen } from './eigen.js';
import { energy, type Matrix, matrix, multiply, multiplyTransposed, scaleRows, transpose } from './matrix.js';
import { qr } from './qr.js';

function random(rows: number, columns: number): Matrix {
  const rng = new Rng(3, `${rows} x ${columns}`);
  return matrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, () => rng.normal()),
  );
}

/** A = V·diag(values)·Vᵀ with a random V; its rows. */
function symmetric(values: number[]): { a: Matrix; rows: Matrix } {
  const rows = transpose(qr(random(values.length, values.length)).q);
  return { a: multiplyTransposed(rows, scaleRows(rows, values)), rows };
}

const operatorOf = (a: Matrix) => ({ size: a.rows, multiply: (rows: Matrix) => multiply(rows, a) });

describe.each([20, 100])('the largest eigenvalues of %d × itself', (n) => {
  const values = Array.from({ length: n }, (_, i) => 100 * 0.8 ** i);
  const { a, rows } = symmetric(values);

  it('and their vectors', async () => {
    const all = await leadingEigen(operatorOf(a), 6, { tolerance: 1e-9, iterations: 200 });
    const found = leading(all, 6);
    expect(found.vectors).toMatchObject({ rows: 6, columns: n });
    for (let k = 0; k < 6; k++) {
      expect(found.values[k]).toBeCloseTo(values[k], 7);
      const [ours, theirs] = [found.vectors, rows].map((m) => m.data.subarray(k * n, (k + 1) * n));
      const dot = ours.reduce((sum, x, i) => sum + x * theirs[i], 0);
      expect(Math.abs(dot)).toBeCloseTo(1, 9);
      expect(energy(ours)).toBeCloseTo(1, 9);
    }
  });

  it('come with nothing where there is nothing', async () => {
    const flat = symmetric(values.map((value, i) => (i < 3 ? value : 0))).a;
    const found = await leadingEigen(operatorOf(flat), 5);
    expect([...found.values.slice(0, 3)].map(Math.round)).toEqual([100, 80, 64]);
    for (const value of found.values.slice(3, 5)) expect(value).toBeLessThan(1e-9);
  });
});

it('vectors of nearly the same matrix are found sooner from the old ones', async () => {
  const values = Array.from({ length: 100 }, (_, i) => 100 * 0.95 ** i);
  const { a } = symmetric(values);
  let products = 0;
  const operator = {
    size: 100,
    multiply(rows: Matrix) {
      products++;
      return multiply(rows, a);
    },
  };
  const first = await leadingEigen(operator, 8);
  const cold = products;
  products = 0;
  await leadingEigen(operator, 8, { start: first.vectors });
  expect(products).toBeLessThan(cold / 2);
});
