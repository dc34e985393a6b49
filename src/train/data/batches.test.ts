import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Rng } from '../../base/rng.js';
import {
  type Batch,
  type BatchOptions,
  batchCount,
  batchesOf,
  microBatchesOf,
  paddingShare,
} from './batches.js';
import type { Example } from './encode.js';
import { nextToken } from './nextToken.js';

const mark = (line: number, t: number) => line * 1000 + t + 1;

/** An example whose ids tell where they stand; ids are never 0, as padding is. */
function example(line: number, supervised: readonly boolean[]): Example {
  const targets = [false, ...supervised.slice(1, -1), true];
  return {
    ids: Int32Array.from(targets, (_, t) => mark(line, t)),
    supervised: Uint8Array.from(targets, Number),
    line,
  };
}

const exampleList = fc
  .array(fc.array(fc.boolean(), { minLength: 2, maxLength: 40 }), { minLength: 1, maxLength: 60 })
  .map((list) => list.map((supervised, line) => example(line, supervised)));
const optionsOf = fc.record({
  batchSize: fc.integer({ min: 1, max: 9 }),
  seed: fc.nat(),
  epoch: fc.nat(5),
  microBatchTokens: fc.integer({ min: 1, max: 200 }),
  groupByLength: fc.boolean(),
});
const forAll = (check: (examples: Example[], options: BatchOptions, batches: Batch[]) => void) =>
  fc.assert(
    fc.property(exampleList, optionsOf, (examples, options) =>
      check(examples, options, [...batchesOf(examples, nextToken, options)]),
    ),
  );

const targetsOf = (batches: Iterable<Batch>) =>
  [...batches].flatMap(({ micro }) => micro.flatMap(({ targetIds }) => [...targetIds])).sort((a, b) => a - b);

describe('batchesOf', () => {
  it('has every supervised token exactly once an epoch, at the position before it', () => {
    forAll((examples, _, batches) => {
      const expected = examples.flatMap(({ ids, supervised }) =>
        [...ids].filter((_id, t) => supervised[t] === 1),
      );
      expect(targetsOf(batches)).toEqual(expected.sort((a, b) => a - b));
      for (const { ids, targetRows, targetIds } of batches.flatMap((batch) => batch.micro)) {
        targetRows.forEach((at, i) => {
          expect(ids[at]).toBe(targetIds[i] - 1);
        });
      }
    });
  });

  it('pads on the right only, and never supervises padding', () => {
    forAll((_, __, batches) => {
      for (const { rows, length, ids, lengths, targetRows } of batches.flatMap((batch) => batch.micro)) {
        expect([ids.length, lengths.length, Math.max(...lengths)]).toEqual([rows * length, rows, length]);
        ids.forEach((id, at) => {
          expect(id !== 0).toBe(at % length < lengths[Math.floor(at / length)]);
        });
        for (const at of targetRows) expect(ids[at]).not.toBe(0);
        expect([...targetRows]).toEqual([...targetRows].sort((a, b) => a - b));
      }
    });
  });

  it('keeps batches at their size and micro-batches within the budget', () => {
    forAll((examples, { batchSize, microBatchTokens }, batches) => {
      expect(batches).toHaveLength(batchCount(examples.length, batchSize));
      const sizes = batches.map((batch) => batch.exampleIndices.length);
      expect(sizes.filter((size) => size !== batchSize).length).toBeLessThanOrEqual(1);
      expect(batches.flatMap((batch) => batch.exampleIndices).sort((a, b) => a - b)).toEqual([
        ...examples.keys(),
      ]);
      for (const { micro, exampleIndices, targets, weight, tokens } of batches) {
        expect(micro.reduce((sum, part) => sum + part.rows, 0)).toBe(exampleIndices.length);
        for (const { rows, length } of micro)
          expect(rows === 1 || rows * length <= microBatchTokens).toBe(true);
        const mine = exampleIndices.map((i) => examples[i]);
        const learned = mine.reduce((sum, one) => sum + one.supervised.filter((x) => x === 1).length, 0);
        expect([targets, weight]).toEqual([learned, learned]);
        expect(tokens).toBe(mine.reduce((sum, one) => sum + one.ids.length - 1, 0));
      }
    });
  });

  it('goes on from any batch as if it had not stopped, and repeats itself', () => {
    forAll((examples, options, batches) => {
      for (let startBatch = 0; startBatch <= batches.length; startBatch++) {
        expect([...batchesOf(examples, nextToken, { ...options, startBatch })]).toEqual(
          batches.slice(startBatch),
        );
      }
    });
  });

  it.each([false, true])('orders each epoch and seed otherwise (groupByLength %s)', (groupByLength) => {
    const examples = Array.from({ length: 50 }, (_, line) => example(line, Array(2 + (line % 7)).fill(true)));
    const order = (seed: number, epoch: number) =>
      [
        ...batchesOf(examples, nextToken, { batchSize: 4, seed, epoch, microBatchTokens: 64, groupByLength }),
      ].map((batch) => batch.exampleIndices);
    expect(order(1, 0)).toEqual(order(1, 0));
    expect(order(1, 0)).not.toEqual(order(1, 1));
    expect(order(1, 0)).not.toEqual(order(2, 0));
  });
});

describe('batches that stay whole', () => {
  const whole = { ...nextToken, whole: true };
  const rows = Array.from({ length: 10 }, (_, line) => example(line, Array(3 + line).fill(true)));
  const sizes = (wholeSize?: number) => {
    const options = { batchSize: 4, seed: 1, epoch: 0, microBatchTokens: 1, wholeSize };
    return [...batchesOf(rows, whole, options)].map(({ micro }) => micro.map((part) => part.rows));
  };

  it('are one micro-batch each, whatever the budget', () => {
    expect(sizes()).toEqual([[4], [4], [2]]);
  });

  it('are as many as they are accumulated of', () => {
    expect(sizes(2)).toEqual([[2, 2], [2, 2], [2]]);
    expect(sizes(3)).toEqual([[3, 1], [3, 1], [2]]);
  });
});

describe('padding', () => {
  it('splits where it costs least', () => {
    const batch = [10, 11, 100, 101].map((length, line) => example(line, Array(length + 1).fill(true)));
    const shapes = (budget: number) =>
      microBatchesOf(batch, nextToken, budget).map(({ rows, length }) => [rows, length]);
    expect(shapes(1000)).toEqual([
      [2, 101],
      [2, 11],
    ]);
    expect(shapes(150)).toEqual([
      [1, 101],
      [1, 100],
      [2, 11],
    ]);
    expect(microBatchesOf(batch.slice(0, 2), nextToken, 1000)).toHaveLength(1);
  });

  it('is a small share of lengths as chats have them, and less with groupByLength', () => {
    const rng = new Rng(1, 'lengths');
    const lengths = Array.from({ length: 800 }, () =>
      Math.min(1024, Math.round(Math.exp(5 + 0.8 * rng.normal()))),
    );
    const examples = lengths.map((length, line) => example(line, Array(Math.max(2, length)).fill(true)));
    const share = (groupByLength: boolean) =>
      paddingShare(
        batchesOf(examples, nextToken, {
          batchSize: 8,
          seed: 3,
          epoch: 0,
          microBatchTokens: 2048,
          groupByLength,
        }),
      );
    expect(share(false)).toBeLessThan(0.04);
    expect(share(true)).toBeLessThan(share(false));
  });

  it('is counted', () => {
    const micro = { rows: 2, length: 4, ids: new Int32Array(8), lengths: Int32Array.of(4, 2) };
    const none = { targetRows: new Int32Array(0), targetIds: new Int32Array(0) };
    const batch: Batch = {
      micro: [{ ...micro, ...none }],
      weight: 0,
      targets: 0,
      tokens: 6,
      exampleIndices: [0, 1],
    };
    expect(paddingShare([batch])).toBe(0.25);
    expect(paddingShare([])).toBe(0);
  });
});
