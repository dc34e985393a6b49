import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Rng } from '../base/rng.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { createAdapter } from '../methods/adapter.js';
import { methodNamed } from '../methods/index.js';
import { type BaseModel, openModel } from '../models/base.js';
import { type Batch, batchesOf, type MicroBatch, paddingShare } from './data/batches.js';
import type { Example } from './data/encode.js';
import { nextToken } from './data/nextToken.js';
import { packRows } from './data/packing.js';
import { gradientOf } from './loop.js';
import { LossStep, TrainStep } from './step.js';

/** Examples of the given lengths; each token is the line and the place in it. */
const examplesOf = (lengths: readonly number[], vocabulary = 90): Example[] =>
  lengths.map((length, line) => {
    const rng = new Rng(9, `example ${line}`);
    const ids = Int32Array.from({ length }, () => rng.below(vocabulary));
    return { ids, supervised: Uint8Array.from(ids, (_, i) => (i > 1 ? 1 : 0)), line };
  });
const batches = (
  examples: readonly Example[],
  packing: boolean,
  batchSize: number,
  microBatchTokens: number,
) => [...batchesOf(examples, nextToken, { batchSize, seed: 1, epoch: 0, microBatchTokens, packing })];

describe('packRows', () => {
  it('keeps every item once, in rows that hold them', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 40 }),
        fc.nat(60),
        (lengths, extra) => {
          const capacity = Math.max(0, ...lengths) + extra;
          const rows = packRows(lengths, (length) => length, capacity);
          expect(rows.flat().sort((a, b) => a - b)).toEqual([...lengths].sort((a, b) => a - b));
          for (const row of rows) expect(row.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(capacity);
        },
      ),
    );
    expect(packRows([6, 4, 3, 3, 2, 2], (length) => length, 10)).toEqual([
      [6, 4],
      [3, 3, 2, 2],
    ]);
  });
});

describe('packed batches', () => {
  it('hold what unpacked ones hold, each example behind its start', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 3, max: 40 }), { minLength: 1, maxLength: 20 }), (lengths) => {
        const examples = examplesOf(lengths);
        const [packed, plain] = [true, false].map((packing) => batches(examples, packing, 8, 120));
        for (const [i, batch] of packed.entries()) {
          expect(batch.targets).toBe(plain[i].targets);
          expect(batch.tokens).toBe(plain[i].tokens);
          expect(batch.exampleIndices).toEqual(plain[i].exampleIndices);
          for (const { rows, length, ids, starts, lengths: real } of batch.micro) {
            expect(rows === 1 || rows * length <= 120).toBe(true);
            for (let at = 0; at < rows * length; at++) {
              const column = at % length;
              const row = at - column;
              if (column >= real[row / length]) expect(starts![at]).toBe(column);
              else {
                const example = examples.find(
                  ({ ids: own }) => own[0] === ids[row + starts![at]] && own.includes(ids[at]),
                );
                expect(example).toBeDefined();
              }
            }
          }
        }
      }),
    );
  });

  it('have less padding than unpacked ones', () => {
    const rng = new Rng(1, 'lengths');
    const lengths = Array.from({ length: 800 }, () =>
      Math.min(1024, Math.round(Math.exp(4 + 0.8 * rng.normal()))),
    );
    const examples = examplesOf(lengths.map((length) => Math.max(3, length)));
    const [packed, plain] = [true, false].map((packing) =>
      paddingShare(batches(examples, packing, 16, 1024)),
    );
    expect(packed).toBeLessThan(plain / 2);
  });
});

describe('packed steps', () => {
  const runtime = new NodeRuntime();
  afterAll(() => runtime.close());

  // Grouped heads; a sliding window of a few positions.
  describe.each(['llama2', 'mistral'])('of %s', (name) => {
    let model: BaseModel;
    beforeAll(async () => {
      model = await openModel(fileURLToPath(new URL(`../../test/golden/fixtures/${name}`, import.meta.url)));
    });
    const examples = examplesOf([5, 17, 9, 6, 30, 12, 4, 8, 21, 7, 3, 11]);
    const all = (packing: boolean): Batch => batches(examples, packing, examples.length, 64)[0];

    it('give each token the loss that it has unpacked, to 1e-5', async () => {
      const lossesOf = async (packed: boolean) => {
        const step = await LossStep.create(runtime, model, undefined, { packed });
        const losses = new Map<string, number>();
        for (const micro of all(packed).micro) {
          const { data } = (await step.run(micro)).losses;
          for (const [key, i] of keysOf(micro, examples).entries()) losses.set(i, data[key]);
        }
        await step.close();
        return losses;
      };
      const [packed, plain] = [await lossesOf(true), await lossesOf(false)];
      expect(
        all(true).micro.some(({ starts, length }) => starts!.some((s, at) => s > 0 && s < at % length)),
      ).toBe(true);
      expect(packed.size).toBe(all(false).targets);
      for (const [key, loss] of plain) expect(Math.abs(packed.get(key)! - loss)).toBeLessThan(1e-5);
    });

    it('give the gradients of unpacked ones', async () => {
      const method = methodNamed('lora');
      const config = method.parse('c', { r: 4, targetModules: 'all-linear', loraDropout: 0 });
      const adapter = await createAdapter(method, config, model, 3);
      for (const { data } of adapter.values.values()) {
        const rng = new Rng(2, `values ${data.length}`);
        data.forEach((_, i) => {
          data[i] = 0.1 * rng.normal();
        });
      }
      const gradients = async (packed: boolean) => {
        const step = await TrainStep.create(runtime, model, adapter, { packed });
        const result = await gradientOf(step, all(packed), 0, 0);
        await step.close();
        return result;
      };
      const [packed, plain] = [await gradients(true), await gradients(false)];
      expect(Math.abs(packed.loss - plain.loss)).toBeLessThan(1e-5);
      for (const [key, { data }] of plain.grads) {
        const largest = data.reduce((max, g) => Math.max(max, Math.abs(g)), 0);
        const other = packed.grads.get(key)!.data;
        const difference = data.reduce((max, g, i) => Math.max(max, Math.abs(g - other[i])), 0);
        expect(largest).toBeGreaterThan(0);
        expect(difference / largest).toBeLessThan(1e-4);
      }
    });
  });
});

/** Which token of which example each target of a micro-batch is. */
function keysOf(
  { ids, length, starts, targetRows, targetIds }: MicroBatch,
  examples: readonly Example[],
): string[] {
  return [...targetRows].map((at, i) => {
    const column = at % length;
    const start = starts?.[at] ?? 0;
    const before = ids.subarray(at - column + start, at + 1);
    const match = examples.filter(
      (example) =>
        example.ids[before.length] === targetIds[i] && before.every((id, t) => example.ids[t] === id),
    );
    if (match.length !== 1) throw new Error(`${match.length} examples have this token`);
    return `${match[0].line} ${before.length}`;
  });
}
