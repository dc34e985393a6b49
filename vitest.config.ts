import { defineConfig } from 'vitest/config';

// Unit tests stand beside their source; those of pictures, end-to-end, golden and platform tests under test/.
// One file at a time: every engine test may use all cores.
export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/{draw,e2e,fuzz,golden,platform}/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    fileParallelism: false,
    setupFiles: ['./test/fuzzRuns.ts'],
    reporters: ['default', './test/skippedReporter.ts'],
  },
});
