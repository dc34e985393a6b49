import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { WorkProgress } from '../base/work.js';
import { openModel } from '../models/base.js';
import { createAdapter } from './adapter.js';
import { methodNamed } from './index.js';

const open = () => openModel(fileURLToPath(new URL('../../test/golden/fixtures/qwen2', import.meta.url)));
const pissa = methodNamed('pissa');
const config = pissa.parse('c', { r: 2, targetModules: ['q_proj', 'v_proj'] });

it('tells of each matrix that a method has started on', async () => {
  const told: WorkProgress[] = [];
  const { values } = await createAdapter(pissa, config, await open(), 0, {
    onProgress: (progress) => told.push(progress),
  });
  const total = values.size / 4;
  expect(total).toBeGreaterThan(2);
  expect(told).toEqual(
    Array.from({ length: total }, (_, i) => ({ what: 'PiSSA', done: i + 1, total, unit: 'matrices' })),
  );
});

it('ends in the middle when it is told to', async () => {
  const stop = new AbortController();
  const told: number[] = [];
  const start = createAdapter(pissa, config, await open(), 0, {
    onProgress: ({ done }) => {
      told.push(done);
      stop.abort('enough');
    },
    signal: stop.signal,
  });
  await expect(start).rejects.toBe('enough');
  expect(told).toEqual([1]);
});
