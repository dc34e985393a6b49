import type { Reporter, TestModule } from 'vitest/node';

/** A suite that is skipped for lack of something says what in its title: "SmolLM2-135M [needs scripts/fetch_models.py]". */
const REASON = /\[needs ([^\]]+)\]/g;

/** Ends a run with how many tests were skipped, by reason. */
export default class SkippedReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>): void {
    const counts = new Map<string, number>();
    for (const module of modules) {
      for (const test of module.children.allTests('skipped')) {
        // Of suites within suites, the inner one is nearer to the reason.
        const reason = [...test.fullName.matchAll(REASON)].at(-1)?.[1];
        const what = reason ? `needs ${reason}` : `no reason given: ${test.fullName}`;
        counts.set(what, (counts.get(what) ?? 0) + 1);
      }
    }
    if (counts.size === 0) return;
    const total = [...counts.values()].reduce((a, n) => a + n, 0);
    console.log(`${total} tests skipped:`);
    for (const [reason, count] of counts) console.log(`  ${String(count).padStart(5)}  ${reason}`);
  }
}
