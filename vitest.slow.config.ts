import { defineConfig } from 'vitest/config';
import config from './vitest.config.js';

// What takes long beside what it holds: kills at every file operation, full disks.
export default defineConfig({ test: { ...config.test, include: ['test/slow/**/*.test.ts'] } });
