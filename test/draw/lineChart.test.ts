import { describe, expect, it } from 'vitest';
import { lineChart } from '../../src/draw/index.js';
import { check, corners, elements, frameOf, marks, texts } from './support.js';

const axes = { x: { label: 'step' }, y: { label: 'loss' } };

describe('a line chart', () => {
  it('puts known values where they belong, linear and logarithmic', () => {
    const svg = lineChart({
      title: 'a',
      x: { label: 'rate', log: true },
      y: { label: 'loss', from: 0, to: 10 },
      series: [
        {
          name: 'one',
          dots: true,
          points: [
            [0.001, 0],
            [0.01, 5],
            [1, 10],
          ],
        },
      ],
    });
    check(svg);
    const { left, right, top, bottom } = frameOf(svg);
    const expected = [
      [left, bottom],
      [left + (right - left) / 3, (top + bottom) / 2],
      [right, top],
    ];
    for (const got of [marks(svg).slice(-3), corners(elements(svg, 'path', 'curve')[1].d)])
      for (const [i, [x, y]] of got.entries()) {
        expect(x).toBeCloseTo(expected[i][0], 0);
        expect(y).toBeCloseTo(expected[i][1], 0);
      }
    expect(texts(svg, 'tick-x')).toEqual(['0.001', '0.01', '0.1', '1']);
    expect(texts(svg, 'tick-y')).toEqual(['0', '2', '4', '6', '8', '10']);
  });

  it('tells in words what it shows', () => {
    const svg = lineChart({
      title: 'a',
      ...axes,
      series: [
        {
          name: 'one',
          points: [
            [1, 4],
            [2, 1.5],
            [3, 2],
          ],
        },
      ],
    });
    expect(svg).toContain(
      '<desc>Line chart of loss over step. one: 3 points, from 4 at step 1 to 2 at step 3; lowest 1.5 at step 2, highest 4 at step 1.</desc>',
    );
    expect(lineChart({ title: 'a', description: 'falls', ...axes, series: [] })).toContain(
      '<desc>falls</desc>',
    );
  });

  it('draws a band from its lower to its upper ends, and faint curves paler than others', () => {
    const svg = lineChart({
      title: 'a',
      x: { label: 'x', from: 0, to: 1 },
      y: { label: 'y', from: 0, to: 4 },
      series: [
        {
          name: 'm',
          look: 0,
          points: [
            [0, 2],
            [1, 3],
          ],
          band: [
            [0, 1, 3],
            [1, 2, 4],
          ],
        },
        {
          look: 0,
          faint: true,
          points: [
            [0, 1],
            [1, 2],
          ],
        },
      ],
    });
    check(svg);
    const { left, right, top, bottom } = frameOf(svg);
    const y = (value: number) => Math.round(bottom - (value / 4) * (bottom - top));
    const band = corners(elements(svg, 'path', 'band')[0].d).map((pixel) => pixel.map(Math.round));
    expect(band).toEqual(
      [
        [left, y(3)],
        [right, y(4)],
        [right, y(2)],
        [left, y(1)],
      ].map((p) => p.map(Math.round)),
    );
    const [solid, faint] = elements(svg, 'path', 'curve').filter(({ d }) => corners(d)[0][1] > top);
    expect([solid['stroke-width'], faint['stroke-width']]).toEqual(['2', '1']);
    expect(faint.stroke).toBe(solid.stroke);
  });

  it('draws one point, equal values, none, negative ones, huge ones and gaps', () => {
    const charts: (readonly (readonly [number, number])[])[] = [
      [],
      [[1, 2]],
      [[1, 0]],
      [
        [1, 2],
        [2, 2],
        [3, 2],
      ],
      [
        [-5, -3],
        [5, -1],
      ],
      [
        [0, -1e308],
        [1, 1e308],
        [2, 0],
      ],
      [
        [0, 1e-300],
        [1, 3e-300],
      ],
      [
        [0, Number.NaN],
        [1, Number.POSITIVE_INFINITY],
        [Number.NaN, 3],
      ],
      [
        [0, 1],
        [1, Number.NaN],
        [2, 3],
      ],
      [
        [1, 1e9],
        [2, 1e9 + 1e-6],
      ],
    ];
    for (const points of charts)
      for (const log of [false, true])
        for (const dots of [false, true]) {
          const svg = lineChart({
            title: 'a',
            x: { label: 'x', log },
            y: { label: 'y', log },
            series: [{ name: 'one', points, dots }],
          });
          check(svg);
          const { left, right, top, bottom } = frameOf(svg);
          for (const [x, y] of marks(svg).slice(dots ? 1 : 0))
            expect(x >= left - 1 && x <= right + 1 && y >= top - 1 && y <= bottom + 1).toBe(true);
        }
    expect(lineChart({ title: 'a', ...axes, series: [] })).toContain('no data');
    // A single point has a mark, since a line would show nothing.
    expect(marks(lineChart({ title: 'a', ...axes, series: [{ points: [[1, 2]] }] }))).toHaveLength(1);
  });

  it('cuts what is beyond ends that were asked for, and draws no mark there', () => {
    const svg = lineChart({
      title: 'a',
      x: { label: 'x' },
      y: { label: 'y', from: 0, to: 1 },
      series: [
        {
          dots: true,
          points: [
            [0, 0.5],
            [1, 7],
          ],
        },
      ],
    });
    check(svg);
    expect(marks(svg)).toHaveLength(1);
    expect(texts(svg, 'tick-y').at(-1)).toBe('1.0');
  });

  it('keeps every peak of very many points', () => {
    const points = Array.from({ length: 100_000 }, (_, i) => [i, i === 77_777 ? 50 : Math.sin(i)] as const);
    const svg = lineChart({ title: 'a', ...axes, series: [{ points }] });
    const drawn = corners(elements(svg, 'path', 'curve')[0].d);
    expect(drawn.length).toBeLessThanOrEqual(1000);
    const { top, bottom } = frameOf(svg);
    expect(Math.min(...drawn.map(([, y]) => y))).toBeLessThan(top + (bottom - top) * 0.2);
  });
});
