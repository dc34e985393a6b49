import { describe, expect, it } from 'vitest';
import { Rng } from '../rng.js';
import { type Matrix, matrix, multiply, transpose } from './matrix.js';
import { minorLeftVectors } from './minor.js';
import { svd } from './svd.js';

function random(rows: number, columns: number): Matrix {
  const rng = new Rng(3, `${rows}×${columns}`);
  return matrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, () => rng.normal()),
  );
}

describe('minorLeftVectors', () => {
  it.each([
    [20, 20, 4],
    [30, 12, 3],
    [12, 30, 5],
    [60, 50, 8],
    [6, 6, 6],
    [1, 5, 1],
  ])('%i × %i, the last %i', (rows, columns, count) => {
    const w = random(rows, columns);
    const found = minorLeftVectors(w, count);
    const { u } = svd(w);
    for (let c = 0; c < count; c++) {
      let cosine = 0;
      for (let i = 0; i < rows; i++) {
        cosine += found.data[i * count + c] * u.data[i * u.columns + u.columns - count + c];
      }
      expect(Math.abs(cosine), `column ${c}`).toBeCloseTo(1, 8);
    }
  });

  it('of a singular matrix: orthonormal, and it maps nothing there', () => {
    const w = multiply(random(16, 10), random(10, 16));
    const found = minorLeftVectors(w, 4);
    const gram = multiply(transpose(found), found);
    for (let i = 0; i < 4; i++) {
      for (let j = 0; j < 4; j++) expect(gram.data[i * 4 + j]).toBeCloseTo(Number(i === j), 8);
    }
    for (const x of multiply(transpose(found), w).data) expect(Math.abs(x)).toBeLessThan(1e-6);
  });
});
