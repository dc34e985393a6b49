import { describe, expect, it } from 'vitest';
import { numberText, placeAxis } from '../../src/draw/axis.js';
import { lineChart, type Theme, themes } from '../../src/draw/index.js';
import { contrast, inks, lookOf, seriesColours } from '../../src/draw/theme.js';
import { check } from './support.js';

const axes = { x: { label: 'step' }, y: { label: 'loss' } };

describe('themes', () => {
  it('have inks and series colours that are read on their grounds', () => {
    for (const { ground, text, muted } of Object.values(inks)) {
      expect(contrast(text, ground)).toBeGreaterThan(7);
      expect(contrast(muted, ground)).toBeGreaterThan(4.5);
      for (const colour of seriesColours) expect(contrast(colour, ground)).toBeGreaterThan(3);
    }
  });

  it('tell thirty series apart by colour and dashes, or colour and marker, and neighbours without colour', () => {
    const looks = Array.from({ length: 30 }, (_, i) => lookOf(i));
    expect(new Set(looks.map(({ colour, dash }) => `${colour} ${dash}`)).size).toBe(30);
    const marked = looks.map(
      ({ colour, marker }) => `${colour} ${[...new Set(looks.map((look) => look.marker))].indexOf(marker)}`,
    );
    expect(new Set(marked).size).toBe(30);
    for (const [i, { dash, marker, hatch }] of looks.entries()) {
      if (i === 0) continue;
      expect(dash).not.toBe(looks[i - 1].dash);
      expect(marker).not.toBe(looks[i - 1].marker);
      expect(hatch).not.toBe(looks[i - 1].hatch);
    }
  });

  it('follow the reader in auto, and hold one set of inks else', () => {
    const draw = (theme: Theme) => lineChart({ title: 'a', ...axes, series: [] }, theme);
    for (const theme of themes) check(draw(theme));
    expect(draw('auto')).toContain('@media (prefers-color-scheme:dark)');
    expect(draw('dark')).toContain(inks.dark.ground);
    expect(draw('dark')).not.toContain(inks.light.ground);
    expect(draw('light')).not.toContain(inks.dark.ground);
  });
});

describe('axes', () => {
  it('write numbers for people', () => {
    expect([0, 1, -0.25, 1500, 12_345, 37_748_736, 1.75e11, 2e-4, 1e20, Number.NaN].map(numberText)).toEqual([
      '0',
      '1',
      '−0.25',
      '1500',
      '12.35k',
      '37.75M',
      '175B',
      '2e-4',
      '1e20',
      '–',
    ]);
  });

  it('have round, different labels in order, whatever they span', () => {
    const spans: [number, number][] = [
      [0, 1],
      [0, 1e-7],
      [-3, 7],
      [1e6, 5e9],
      [99, 101],
      [0.98, 0.985],
      [1e-5, 1],
      [3, 4],
      [1, 1e12],
    ];
    for (const [from, to] of spans)
      for (const log of [false, true]) {
        if (log && from <= 0) continue;
        const { tickList } = placeAxis({ label: '', log }, [from, to], {
          range: [0, 400],
          count: 6,
          nice: true,
        });
        expect(tickList.length).toBeGreaterThan(1);
        expect(tickList.length).toBeLessThan(14);
        expect(new Set(tickList.map(({ label }) => label)).size).toBe(tickList.length);
        expect(tickList.map(({ at }) => at)).toEqual(tickList.map(({ at }) => at).sort((a, b) => a - b));
      }
  });
});
