import { describe, expect, it } from 'vitest';
import { bars, heatMap, heatMaps, scatter } from '../../src/draw/index.js';
import { contrast, inkOn } from '../../src/draw/theme.js';
import { check, elements, marks, texts } from './support.js';

const axes = { x: { label: 'step' }, y: { label: 'loss' } };

describe('a scatter', () => {
  const picture = scatter({
    title: 'accuracy against parameters',
    x: { label: 'parameters', log: true },
    y: { label: 'accuracy' },
    groups: [
      {
        name: 'LoRA',
        line: true,
        points: [
          { x: 1e6, y: 70, label: 'r=1', yRange: [69, 71] },
          { x: 1e7, y: 72, label: 'r=8' },
        ],
      },
      {
        name: 'full',
        points: [
          { x: 1e8, y: 71, label: 'all' },
          { x: 0, y: 71, label: 'none' },
        ],
      },
    ],
  });

  it('has marks at equal distances for equal factors, error bars, names and no point that a log axis lacks', () => {
    check(picture);
    const [a, b, c] = marks(picture).slice(-3);
    expect(b[0] - a[0]).toBeCloseTo(c[0] - b[0], 0);
    expect(b[1]).toBeLessThan(c[1]);
    expect(c[1]).toBeLessThan(a[1]);
    expect(elements(picture, 'path', 'error')).toHaveLength(1);
    expect(texts(picture, 'name')).toEqual(['r=1', 'r=8', 'all']);
    expect(picture).toContain(
      'LoRA: r=1 70 (69 to 71) at parameters 1M, r=8 72 at parameters 10M. full: all 71 at parameters 100M.',
    );
  });

  it('puts names of near points beside each other, not over', () => {
    const svg = scatter({
      title: 'near',
      ...axes,
      groups: [
        {
          name: 'a',
          points: Array.from({ length: 4 }, (_, i) => ({
            x: i / 100,
            y: 1 + i / 100,
            label: `name ${i}`,
          })).concat([{ x: 1, y: 9, label: 'far' }]),
        },
      ],
    });
    const boxes = elements(svg, 'text', 'name').map(({ x, y }) => [Number(x), Number(y)]);
    for (const [i, [x, y]] of boxes.entries())
      for (const [u, v] of boxes.slice(0, i)) expect(Math.abs(x - u) > 40 || Math.abs(y - v) > 9).toBe(true);
  });
});

describe('bars', () => {
  it('stand on 0, up and down, as high as their values', () => {
    const svg = bars({
      title: 'a',
      groups: ['one', 'two', 'three'],
      y: { label: 'percent' },
      series: [
        { name: 'a', values: [10, -5, undefined], ranges: [[9, 11]] },
        { name: 'b', values: [20, Number.NaN, 0] },
      ],
    });
    check(svg);
    const drawn = elements(svg, 'rect', 'bar')
      .slice(2)
      .map(({ y, height }) => [Number(y), Number(height)]);
    const [[top, ten]] = drawn;
    const zero = top + ten;
    const expected = [
      [top, ten],
      [zero - 2 * ten, 2 * ten],
      [zero, ten / 2],
      [zero, 0],
    ];
    expect(drawn).toHaveLength(4);
    for (const [i, [y, height]] of expected.entries()) {
      expect(drawn[i][0]).toBeCloseTo(y, 1);
      expect(drawn[i][1]).toBeCloseTo(height, 1);
    }
    expect(elements(svg, 'path', 'error')).toHaveLength(1);
    expect(texts(svg, 'value')).toEqual(['10', '20', '−5', '0']);
    expect(svg).toContain('one: a 10, b 20. two: a −5, b none. three: a none, b 0.');
  });

  it('draw nothing, one, equal, huge and many', () => {
    for (const values of [[], [3], [2, 2, 2], [1e308, -1e308], Array.from({ length: 60 }, (_, i) => i)])
      check(
        bars({
          title: 'a',
          groups: values.map((_, i) => `a group called ${i}`),
          y: { label: 'y' },
          series: [{ name: 'a', values }],
        }),
      );
    check(bars({ title: 'a', groups: [], y: { label: 'y' }, series: [] }));
  });
});

describe('a heat map', () => {
  const scale = { kind: 'sequential', label: 'φ', from: 0, to: 1 } as const;

  it('has a cell for each value, in its place, with its number in ink that is read on it', () => {
    const svg = heatMap({
      title: 'φ',
      rows: ['a', 'b'],
      columns: ['x', 'y', 'z'],
      values: [
        [0, 0.5, 1],
        [1, undefined, 0.25],
      ],
      scale,
    });
    check(svg);
    const cells = elements(svg, 'rect', 'cell');
    expect(cells).toHaveLength(5);
    expect(elements(svg, 'path', 'unknown')).toHaveLength(1);
    expect(cells[0].fill).toBe('#440154');
    expect(cells[2].fill).toBe('#fde725');
    expect(cells[0].fill).not.toBe(cells[1].fill);
    const over = Number(cells[0].x) + Number(cells[0].width) - Number(cells[1].x);
    expect(over).toBeGreaterThan(0);
    expect(over).toBeLessThan(1);
    expect(cells[3].fill).toBe(cells[2].fill);
    for (const { fill } of cells) expect(contrast(inkOn(fill), fill)).toBeGreaterThan(4.5);
    expect([...svg.matchAll(/>([\d.]+)<\/text>/g)].map(([, text]) => text)).toEqual(
      expect.arrayContaining(['0.00', '0.50', '1.00', '0.25']),
    );
    expect(svg).toContain('mean 0.55, lowest 0 at a, x, highest 1 at a, z.');
  });

  it('has white in the middle of a diverging scale, whatever the ends are', () => {
    const svg = heatMap({
      title: 'd',
      rows: ['a'],
      columns: ['x', 'y', 'z'],
      values: [[-1, 0, 4]],
      scale: { kind: 'diverging', label: 'd' },
    });
    check(svg);
    const shades = elements(svg, 'rect', 'cell').map(({ fill }) => fill.match(/\d+/g)!.map(Number));
    expect(Math.min(...shades[1])).toBeGreaterThan(230);
    // Blue below, red above.
    expect(shades[0][2]).toBeGreaterThan(shades[0][0]);
    expect(shades[2][0]).toBeGreaterThan(shades[2][2]);
  });

  it('draws several on one scale, large ones as means, and none', () => {
    const map = (title: string, rows: number, columns: number, value: (r: number, c: number) => number) => ({
      title,
      rows: Array.from({ length: rows }, (_, i) => `${i}`),
      columns: Array.from({ length: columns }, (_, i) => `${i}`),
      values: Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => value(r, c))),
    });
    const several = heatMaps({
      title: 'two',
      scale,
      maps: [map('p', 2, 2, () => 0), map('q', 2, 2, () => 1)],
    });
    check(several);
    expect(new Set(elements(several, 'rect', 'cell').map(({ fill }) => fill)).size).toBe(2);
    const large = heatMaps({ title: 'large', scale, maps: [map('', 500, 300, (r, c) => (r + c) % 2)] });
    check(large);
    expect(elements(large, 'rect', 'cell').length).toBeLessThanOrEqual(128 * 128);
    for (const maps of [
      [],
      [map('e', 0, 0, () => 0)],
      [map('n', 2, 2, () => Number.NaN)],
      [map('s', 1, 1, () => 3)],
    ])
      check(heatMaps({ title: 'odd', maps, scale: { kind: 'sequential', label: 'v' } }));
    for (const value of [0, -2, 1e308])
      for (const kind of ['sequential', 'diverging'] as const)
        check(heatMaps({ title: 'equal', maps: [map('e', 2, 2, () => value)], scale: { kind, label: 'v' } }));
  });
});
