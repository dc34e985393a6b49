import { expect, it } from 'vitest';
import { CODE_OF_ZERO, quantizeRows } from './rows8.js';

const ROWS = 70;
const COLUMNS = 45;
const values = Float32Array.from({ length: ROWS * COLUMNS }, (_, i) => Math.sin(i * 1.3) * (1 + (i % 11)));
values.fill(0, 3 * COLUMNS, 4 * COLUMNS);

it('rounds each value to the nearest multiple of its row’s scale', () => {
  const { codes, scales } = quantizeRows(values, [ROWS, COLUMNS], { turned: false });
  values.forEach((value, at) => {
    const scale = scales[Math.floor(at / COLUMNS)];
    expect(Math.abs((codes[at] - CODE_OF_ZERO) * scale - value)).toBeLessThanOrEqual(scale / 2 + 1e-6);
  });
  const row = values.subarray(0, COLUMNS);
  expect(scales[0]).toBeCloseTo(Math.max(...row.map(Math.abs)) / 127, 6);
  expect(scales[3]).toBe(0);
  expect(new Set(codes.subarray(3 * COLUMNS, 4 * COLUMNS))).toEqual(new Set([CODE_OF_ZERO]));
});

it('turns the codes over', () => {
  const plain = quantizeRows(values, [ROWS, COLUMNS], { turned: false });
  const turned = quantizeRows(values, [ROWS, COLUMNS], { turned: true });
  expect(turned.scales).toEqual(plain.scales);
  for (let i = 0; i < ROWS; i++)
    for (let j = 0; j < COLUMNS; j++) expect(turned.codes[j * ROWS + i]).toBe(plain.codes[i * COLUMNS + j]);
});
