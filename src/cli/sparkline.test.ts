import { describe, expect, it } from 'vitest';
import { curveLines, rangeOf, sparkline } from './sparkline.js';

const falling = Array.from({ length: 16 }, (_, i) => ({ step: i + 1, loss: 16 - i }));

describe('sparkline', () => {
  it('falls from the highest block to the lowest', () => {
    expect(sparkline(falling, 100, 16)).toBe(' ██▇▇▆▆▅▅▄▄▃▃▂▂▁▁');
    expect(sparkline(falling, 4, 16)).toHaveLength(4);
    for (let last = 1; last <= 60; last++) {
      const points = Array.from({ length: last + 1 }, (_, step) => ({ step, loss: step }));
      expect(sparkline(points, 100, last)).not.toContain(' ');
    }
  });

  it('shares a scale, leaves gaps, and draws a flat curve', () => {
    expect(sparkline([{ step: 0, loss: 1 }], 5, 4, { low: 1, high: 3 })).toBe('▁');
    expect(sparkline([{ step: 4, loss: 3 }], 5, 4, { low: 1, high: 3 })).toBe('    █');
    expect(
      sparkline(
        [0, 1, 2].map((step) => ({ step, loss: 2 })),
        3,
        2,
      ),
    ).toBe('▁▁▁');
    expect(rangeOf([])).toEqual({ low: Number.POSITIVE_INFINITY, high: Number.NEGATIVE_INFINITY });
  });

  it('stands between the first and the last loss', () => {
    const [loss, ...more] = curveLines({ train: falling, heldOut: [{ step: 0, loss: 9 }] }, 32);
    expect(loss).toBe('loss      16.000 ██▇▆▅▃▂▁▁ 2.000');
    expect(more).toEqual([]);
    const long = Array.from({ length: 200 }, (_, i) => ({ step: i + 1, loss: 2 }));
    for (const [columns, length] of [
      [39, 39],
      [120, 70],
    ]) {
      expect(curveLines({ train: long, heldOut: [] }, columns)[0]).toHaveLength(length);
    }
    expect(curveLines({ train: falling, heldOut: [] }, 20)).toEqual([]);
  });
});
