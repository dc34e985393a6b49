/** LOWRANK_FUZZ_RUNS: how many cases each property is tried on, also one that says itself how many. */
import { vi } from 'vitest';

const runs = process.env.LOWRANK_FUZZ_RUNS;
if (runs !== undefined) {
  const numRuns = Number(runs);
  // A property's own number wins over fast-check's global one.
  vi.doMock('fast-check', async (original) => {
    const fc = await original<typeof import('fast-check')>();
    const { assert: real } = fc as { assert: (property: unknown, params?: object) => void | Promise<void> };
    const assert = (property: unknown, params?: object) => real(property, { ...params, numRuns });
    return { ...fc, assert, default: { ...fc.default, assert } };
  });
}
