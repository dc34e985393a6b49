import { describe, expect, it } from 'vitest';
import { methods } from '../methods/index.js';
import { filledByRows, stepsOf } from './byRows.js';
import { MAX_STEPS, parseTrainOptions } from './options.js';

const filled = (rows: number, given: object = {}, method: keyof typeof methods = 'lora') => {
  const { epochs, learningRate } = filledByRows(parseTrainOptions('o', given), rows, methods[method]);
  return [epochs, learningRate];
};

describe('the steps of a run', () => {
  const steps = (rows: number, given: object) =>
    stepsOf(rows, filledByRows(parseTrainOptions('o', given), rows, methods.lora));

  it('are those given, or of the epochs, one at least', () => {
    expect(steps(64, { maxSteps: 7, epochs: 1e300 })).toBe(7);
    expect(steps(60, { epochs: 2.5 })).toBe(20);
    expect(steps(64, { epochs: 1e-300 })).toBe(1);
    expect(steps(8, { epochs: MAX_STEPS })).toBe(MAX_STEPS);
    expect(steps(8, { maxSteps: MAX_STEPS })).toBe(MAX_STEPS);
  });

  it('are refused where they are absurdly many', () => {
    for (const epochs of [MAX_STEPS + 1, 1e15, 1e300, Number.MAX_VALUE]) {
      expect(() => steps(64, { epochs })).toThrow(
        / epochs of 64 examples are .* steps; a run has at most 99999999$/,
      );
    }
    expect(() => steps(8, { maxSteps: MAX_STEPS + 1 })).toThrow(
      'o: key "maxSteps": expected a number of at most 99999999',
    );
  });
});

describe('epochs and learning rate', () => {
  it('go by the number of rows where they are not given', () => {
    expect(filled(8)).toEqual([10, 1e-3]);
    expect(filled(48)).toEqual([4, 1e-3]);
    expect(filled(80)).toEqual([3, 1e-3]);
    expect(filled(1000)).toEqual([3, 1e-3]);
    expect(filled(1001)).toEqual([1, 5e-4]);
    expect(filled(10_001)).toEqual([1, 2e-4]);
    expect(filled(80, { gradientAccumulationSteps: 4 })).toEqual([7, 1e-3]);
  });

  it('are what is given', () => {
    expect(filled(48, { epochs: 0.5 })).toEqual([0.5, 1e-3]);
    expect(filled(48, { learningRate: 3 })).toEqual([4, 3]);
  });

  it('are no higher for methods that are not measured so', () => {
    for (const method of ['full', 'vera', 'pissa', 'olora', 'loraplus'] as const) {
      expect(filled(48, {}, method)[1]).toBe(2e-4);
    }
    expect(filled(48, {}, 'dora')[1]).toBe(1e-3);
  });
});
