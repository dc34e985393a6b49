import { describe, expect, it } from 'vitest';
import { bars, heatMap, lineChart, scatter } from '../../src/draw/index.js';
import { clipped, textWidth, wrappedText } from '../../src/draw/textSize.js';
import { check } from './support.js';

const axes = { x: { label: 'step' }, y: { label: 'loss' } };

describe('any text', () => {
  it('is escaped, in titles, names, labels and attributes', () => {
    const evil = '<script>"&\'\u0000\u001b\ud800</script>';
    for (const svg of [
      lineChart({
        title: evil,
        subtitle: evil,
        description: evil,
        x: { label: evil },
        y: { label: evil },
        series: [{ name: evil, points: [[1, 2]] }],
      }),
      scatter({
        title: evil,
        x: { label: evil },
        y: { label: evil },
        groups: [{ name: evil, points: [{ x: 1, y: 2, label: evil }] }],
      }),
      bars({
        title: evil,
        groups: [evil, evil],
        y: { label: evil },
        series: [
          { name: evil, values: [1, 2] },
          { name: 'b', values: [1] },
        ],
      }),
      heatMap({
        title: evil,
        rows: [evil],
        columns: [evil],
        rowLabel: evil,
        columnLabel: evil,
        values: [[1]],
        scale: { kind: 'sequential', label: evil },
      }),
    ]) {
      check(svg);
      expect(svg).not.toContain('<script');
      expect([...'\u0000\u001b\ud800'].filter((c) => svg.includes(c))).toEqual([]);
    }
  });

  it('is as wide as told, and cut where it has no room', () => {
    expect(textWidth('', 10)).toBe(0);
    expect(textWidth('MMM', 10)).toBeGreaterThan(textWidth('iii', 10) * 2);
    expect(clipped('short', 100, 12)).toBe('short');
    const cut = clipped('runs/a-very-long-name-of-a-run-with-seed-7', 100, 12);
    expect(textWidth(cut, 12)).toBeLessThanOrEqual(100);
    expect(cut).toMatch(/^run.*….*-7$/);
    const lines = wrappedText('one two three four five six seven eight nine ten', 60, 12, 2);
    expect(lines).toHaveLength(2);
    expect(lines[1]).toMatch(/…$/);
    for (const line of lines) expect(textWidth(line, 12)).toBeLessThanOrEqual(60);
    expect(wrappedText('', 60, 12, 2)).toEqual([]);
    // Names that differ at their ends still do in a legend.
    const names = ['a', 'b'].map((end) => `${'long-'.repeat(60)}${end}`);
    const svg = lineChart({
      title: 'x'.repeat(500),
      ...axes,
      series: names.map((name) => ({
        name,
        points: [
          [1, 2],
          [2, 3],
        ],
      })),
    });
    check(svg);
    expect(svg).toMatch(/-a<\/text>/);
    expect(svg).toMatch(/-b<\/text>/);
  });
});
