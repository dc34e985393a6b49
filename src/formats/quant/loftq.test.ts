import fc from 'fast-check';
import { expect, it } from 'vitest';
import { multiply, scaleColumns } from '../../base/linalg/matrix.js';
import { Rng } from '../../base/rng.js';
import { type MatrixShape, quantCodecs, quantFormats } from './index.js';
import { lostPart, quantizeAlternately } from './loftq.js';

const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));

/** ‖W − (Q_T + L_T)‖; with r 0, ‖W − q(W)‖. */
function distance(
  w: Float32Array,
  shape: MatrixShape,
  format: (typeof quantFormats)[number],
  r: number,
  iterations = 1,
) {
  const held = quantCodecs[format].dequantize(
    quantizeAlternately(w, shape, format, { r, iterations }),
    shape,
  );
  if (r === 0) return norm(w.map((x, i) => x - held[i]));
  const { u, s, vt } = lostPart(w, held, shape, r);
  const low = multiply(scaleColumns(u, s), vt).data;
  return norm(w.map((x, i) => x - held[i] - low[i]));
}

const randomMatrix = fc.record({
  shape: fc.tuple(fc.integer({ min: 8, max: 40 }), fc.integer({ min: 8, max: 40 })),
  seed: fc.integer({ min: 0, max: 1e6 }),
  /** Weights of trained layers have rows and columns of different sizes. */
  spread: fc.double({ min: 0, max: 1, noNaN: true }),
  format: fc.constantFrom(...quantFormats),
});

function weights([rows, columns]: MatrixShape, seed: number, spread: number): Float32Array {
  const rng = new Rng(seed, 'loftq');
  const size = (count: number) => Array.from({ length: count }, () => Math.exp(spread * rng.normal()));
  const [ofRow, ofColumn] = [size(rows), size(columns)];
  return Float32Array.from(
    { length: rows * columns },
    (_, i) => rng.normal() * ofRow[Math.floor(i / columns)] * ofColumn[i % columns],
  );
}

it('is nearer to the matrix than its quantized one', () => {
  fc.assert(
    fc.property(
      randomMatrix,
      fc.integer({ min: 2, max: 5 }),
      ({ shape, seed, spread, format }, iterations) => {
        const w = weights(shape, seed, spread);
        const r = Math.max(1, Math.floor(Math.min(...shape) / 4));
        const first = distance(w, shape, format, r);
        expect(first).toBeLessThan(distance(w, shape, format, 0));
        // Nothing promises that a further iteration is nearer for each matrix; it leads far away from none.
        expect(distance(w, shape, format, r, iterations)).toBeLessThan(1.3 * first);
      },
    ),
    { numRuns: 60 },
  );
});

it.each(quantFormats)('over many matrices of %s it gets nearer with iterations', (format) => {
  const shape = [24, 20] as const;
  const means = [1, 2, 5].map((iterations) => {
    const of = (seed: number) => distance(weights(shape, seed, 0.5), shape, format, 5, iterations);
    return Array.from({ length: 40 }, (_, seed) => of(seed)).reduce((a, b) => a + b) / 40;
  });
  expect(means).toEqual([...means].sort((a, b) => b - a));
  expect(means[2]).toBeLessThan(0.99 * means[0]);
});

it('one iteration is plain quantization', () => {
  const w = weights([20, 24], 1, 0.5);
  for (const format of quantFormats) {
    const plain = quantCodecs[format].quantize(w, [20, 24]);
    expect(quantizeAlternately(w, [20, 24], format, { r: 3, iterations: 1 })).toEqual(plain);
    expect(quantizeAlternately(w, [20, 24], format, { r: 3, iterations: 2 })).not.toEqual(plain);
  }
});
