import { EigenvalueDecomposition, Matrix as Reference } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { Rng } from '../rng.js';
import { type Matrix, matrix, multiply, multiplyRows, scaleColumns, transpose } from './matrix.js';
import { qr } from './qr.js';
import { symmetricEigen } from './symmetric.js';

function random(rows: number, columns: number): Matrix {
  const rng = new Rng(5, `${rows}×${columns}`);
  return matrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, () => rng.normal()),
  );
}

const worst = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);

describe('symmetricEigen', () => {
  it.each([1, 2, 3, 17, 60, 140])("%d × itself: ml-matrix' values, and vectors that restore it", (n) => {
    const half = random(n, n);
    const a = matrix(
      n,
      n,
      half.data.map((x, i) => x + half.data[(i % n) * n + Math.floor(i / n)]),
    );
    const { values, vectors } = symmetricEigen(a, 'vectors');
    const rows = Array.from({ length: n }, (_, i) => [...a.data.subarray(i * n, (i + 1) * n)]);
    const theirs = new EigenvalueDecomposition(new Reference(rows)).realEigenvalues.sort((x, y) => y - x);
    expect(worst(values, theirs)).toBeLessThan(1e-11);
    expect(symmetricEigen(a, 'values')).toEqual(values);
    expect(worst(multiply(scaleColumns(transpose(vectors), values), vectors).data, a.data)).toBeLessThan(
      1e-11,
    );
    const gram = multiplyRows(vectors, vectors);
    expect(
      worst(
        gram.data,
        matrix(
          n,
          n,
          Array.from({ length: n * n }, (_, i) => Number(i % (n + 1) === 0)),
        ).data,
      ),
    ).toBeLessThan(1e-12);
  });

  it('finds equal values, zeros, and what is diagonal already', () => {
    const wanted = [7, 7, 7, 2, 1, 0, 0, 0];
    const { q } = qr(random(8, 8));
    const a = multiply(scaleColumns(q, wanted), transpose(q));
    expect(worst(symmetricEigen(a, 'values'), wanted)).toBeLessThan(1e-13);
    expect([...symmetricEigen(matrix(3, 3, [2, 0, 0, 0, 5, 0, 0, 0, 3]), 'values')]).toEqual([5, 3, 2]);
    expect([...symmetricEigen(matrix(3, 3), 'values')]).toEqual([0, 0, 0]);
  });

  it('refuses what is not square', () => {
    expect(() => symmetricEigen(matrix(2, 3), 'values')).toThrow('2 × 3 is not symmetric');
  });
});
