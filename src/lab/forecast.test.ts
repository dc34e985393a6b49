import { describe, expect, it } from 'vitest';
import { secondsOf } from './forecast.js';
import type { PlannedRun } from './run.js';
import type { StoredRun } from './store.js';

const planned = (labels: Record<string, string>, steps?: number, kind = 'train'): PlannedRun => ({
  id: JSON.stringify(labels),
  name: 'run',
  kind,
  labels,
  options: {},
  needs: [],
  facts: steps === undefined ? {} : { steps },
});
const done = (run: PlannedRun, metrics: Record<string, number>): StoredRun => ({
  ...run,
  finished: '',
  status: 'done',
  metrics,
});

describe('the time of a run', () => {
  const small = done(planned({ seed: '0', r: '1' }), { seconds: 10, steps: 100 });
  const large = done(planned({ seed: '0', r: '64' }), { seconds: 40, steps: 100 });

  it('is its steps at the pace of those most like it, whatever their seed', () => {
    expect(secondsOf(planned({ seed: '1', r: '64' }, 50), [small, large])).toBe(20);
    expect(secondsOf(planned({ seed: '1', r: '1' }, 100), [small, large])).toBe(10);
    const again = done(planned({ seed: '2', r: '64' }), { seconds: 20, steps: 100 });
    expect(secondsOf(planned({ seed: '1', r: '64' }, 100), [small, large, again])).toBeCloseTo(30);
    // None is like it in anything: all count.
    expect(secondsOf(planned({ seed: '0', r: '8' }, 100), [small, large])).toBe(25);
  });

  it('is not told by runs that failed, or of another kind', () => {
    const failed: StoredRun = { ...planned({ r: '1' }), finished: '', status: 'failed', error: 'no' };
    expect(secondsOf(planned({ r: '1' }, 100), [failed])).toBeUndefined();
    expect(secondsOf(planned({ r: '1' }, undefined, 'latency'), [small])).toBeUndefined();
    const measured = done(planned({ batch: '1' }, undefined, 'latency'), { seconds: 3 });
    expect(secondsOf(planned({ batch: '4' }, undefined, 'latency'), [measured, small])).toBe(3);
  });
});
