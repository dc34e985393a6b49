import { defineConfig } from 'vitest/config';
import config from './vitest.config.js';

// What takes long beside what it holds: kills at every file operation, full disks, every method on a model with experts.
export default defineConfig({
  test: {
    ...config.test,
    include: ['test/slow/**/*.test.ts', 'test/golden/methodsConformance.test.ts'],
    env: { LOWRANK_SUITE: 'slow' },
  },
});
