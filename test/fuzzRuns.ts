/** LOWRANK_FUZZ_RUNS: how many cases each property is tried on, beside the default of fast-check or the test's own. */
import fc from 'fast-check';

const runs = process.env.LOWRANK_FUZZ_RUNS;
if (runs !== undefined) fc.configureGlobal({ numRuns: Number(runs) });
