import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bars, heatMap, heatMaps, lineChart, scatter, type Theme } from '../draw/index.js';
import { inks } from '../draw/theme.js';
import { claimPicture, pngOf, savePicture } from './picture.js';

const chart = (theme: Theme) =>
  lineChart(
    {
      title: 'loss of ΔW',
      x: { label: 'step' },
      y: { label: 'loss' },
      series: [
        {
          name: 'a',
          points: [
            [1, 2],
            [2, 1],
          ],
        },
      ],
    },
    theme,
  );

/** The size and the pixels of a PNG file with eight bits of each of red, green, blue and alpha. */
function decoded(png: Uint8Array): { width: number; height: number; at: (x: number, y: number) => number[] } {
  const bytes = Buffer.from(png);
  expect(bytes.subarray(0, 8).toString('hex')).toBe('89504e470d0a1a0a');
  const [width, height] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
  expect([bytes[24], bytes[25]]).toEqual([8, 6]);
  const data: Buffer[] = [];
  for (let at = 8; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    if (bytes.subarray(at + 4, at + 8).toString('latin1') === 'IDAT')
      data.push(bytes.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const lines = inflateSync(Buffer.concat(data));
  const size = 4 * width;
  expect(lines.length).toBe((size + 1) * height);
  const pixels = Buffer.alloc(size * height);
  for (let y = 0; y < height; y++) {
    const filter = lines[y * (size + 1)];
    for (let i = 0; i < size; i++) {
      const left = i < 4 ? 0 : pixels[y * size + i - 4];
      const up = y === 0 ? 0 : pixels[(y - 1) * size + i];
      const corner = i < 4 || y === 0 ? 0 : pixels[(y - 1) * size + i - 4];
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      pixels[y * size + i] = lines[y * (size + 1) + 1 + i] + guess;
    }
  }
  return { width, height, at: (x, y) => [...pixels.subarray(y * size + 4 * x, y * size + 4 * x + 4)] };
}

function paeth(a: number, b: number, c: number): number {
  const [da, db, dc] = [b - c, a - c, a + b - 2 * c].map(Math.abs);
  return da <= db && da <= dc ? a : db <= dc ? b : c;
}

function rgb(hex: string): number[] {
  return [1, 3, 5].map((i) => Number.parseInt(hex.slice(i, i + 2), 16));
}

describe('a PNG picture', () => {
  it('is twice as large as the SVG picture, on the ground of its theme, with a curve', async () => {
    const [, width, height] = chart('light')
      .match(/viewBox="0 0 (\d+) (\d+)"/)!
      .map(Number);
    for (const theme of ['light', 'dark'] as const) {
      const image = decoded(await pngOf(chart, theme));
      expect([image.width, image.height]).toEqual([2 * width, 2 * height]);
      expect(image.at(2, 2)).toEqual([...rgb(inks[theme].ground), 255]);
      const colours = new Set<string>();
      for (let y = 200; y < image.height - 150; y++)
        colours.add(
          image
            .at(image.width / 2, y)
            .slice(0, 3)
            .join(),
        );
      expect(colours).toContain(rgb('#0072b2').join());
    }
  });

  it('has no seams between the cells of a large matrix', async () => {
    const names = Array.from({ length: 64 }, (_, i) => `${i + 1}`);
    const words = { title: 'r', rowLabel: 'i', columnLabel: 'j' };
    const map = { ...words, rows: names, columns: names, values: names.map(() => names.map(() => 0)) };
    const scale = { kind: 'sequential', label: 'φ', from: 0, to: 1 } as const;
    const draw = (theme: Theme) => heatMaps({ title: 'h', maps: [map, map, map], scale }, theme);
    const image = decoded(await pngOf(draw, 'light'));
    const corners = [...draw('light').matchAll(/<rect class="cell"[^>]* x="([\d.]+)" y="([\d.]+)"/g)].map(
      ([, x, y]) => [2 * Number(x), 2 * Number(y)],
    );
    for (const map of [0, 1, 2]) {
      const [left, top] = corners[64 * 64 * map];
      const [right, bottom] = corners[64 * 64 * (map + 1) - 1];
      const colours = new Set<string>();
      for (let x = Math.ceil(left) + 1; x < right; x++)
        colours.add(String(image.at(x, Math.round((top + bottom) / 2))));
      for (let y = Math.ceil(top) + 1; y < bottom; y++)
        colours.add(String(image.at(Math.round((left + right) / 2), y)));
      expect([...colours]).toEqual([String([...rgb('#440154'), 255])]);
    }
  });

  it('has its text from the font that comes along, Greek letters too', async () => {
    const drawing = (text: string) =>
      pngOf(
        () =>
          `<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20"><text x="2" y="15" style="font-family:system-ui,sans-serif">${text}</text></svg>`,
      );
    const seen = new Set<string>();
    for (const text of ['', 'a', 'b', 'Δ', 'φ', '‖', 'ᵀ', '→', '−', '²', '…', '×', 'я', 'é', '≤'])
      seen.add(Buffer.from(await drawing(text)).toString('base64'));
    expect(seen.size).toBe(15);
  });

  it('can be made of every kind of picture', async () => {
    const axes = { x: { label: 'x' }, y: { label: 'y' } };
    for (const draw of [
      (theme: Theme) =>
        scatter(
          { title: '<a> & "b"', ...axes, groups: [{ name: 'g', points: [{ x: 1, y: 2, label: '&' }] }] },
          theme,
        ),
      (theme: Theme) =>
        bars(
          {
            title: 'b',
            groups: ['g', 'h'],
            y: { label: 'y' },
            series: [
              { name: 's', values: [1, -2] },
              { name: 't', values: [2] },
            ],
          },
          theme,
        ),
      (theme: Theme) =>
        heatMap(
          {
            title: 'h',
            rows: ['a'],
            columns: ['b'],
            values: [[Number.NaN]],
            scale: { kind: 'diverging', label: 'v' },
          },
          theme,
        ),
      (theme: Theme) => lineChart({ title: 'l', ...axes, series: [] }, theme),
    ]) {
      const [, width, height] = draw('auto')
        .match(/viewBox="0 0 ([\d.]+) ([\d.]+)"/)!
        .map(Number);
      const image = decoded(await pngOf(draw, 'auto'));
      expect(Math.abs(image.width - 2 * width)).toBeLessThanOrEqual(1);
      expect(image.height).toBe(2 * height);
    }
  });
});

describe('a picture in a file', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'lowrank-picture-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  it('is of the kind that its name says, in a folder that is made for it', async () => {
    const [svg, png] = [join(root, 'new', 'a.svg'), join(root, 'b.PNG')];
    await savePicture(svg, chart);
    await savePicture(png, chart, { theme: 'dark' });
    expect(await readFile(svg, 'utf8')).toBe(chart('auto'));
    expect(
      decoded(await readFile(png))
        .at(0, 0)
        .slice(0, 3),
    ).toEqual(rgb(inks.dark.ground));
    expect((await readdir(root)).sort()).toEqual(['b.PNG', 'new']);
  });

  it('replaces none unless asked, and none of another kind', async () => {
    const path = join(root, 'a.svg');
    await writeFile(path, 'mine');
    await expect(savePicture(path, chart)).rejects.toThrow(
      `${path} exists already; choose another file, or replace it by the option "overwrite"`,
    );
    await expect(claimPicture(path)).rejects.toThrow('exists already');
    expect(await readFile(path, 'utf8')).toBe('mine');
    await savePicture(path, chart, { overwrite: true });
    expect(await readFile(path, 'utf8')).toContain('<svg');
    for (const name of ['a.jpg', 'a', 'svg'])
      await expect(claimPicture(join(root, name))).rejects.toThrow("a picture's name ends in .svg or .png");
    await mkdir(join(root, 'folder.svg'));
    await expect(savePicture(join(root, 'folder.svg'), chart, { overwrite: true })).rejects.toThrow(
      /folder\.svg is a folder/,
    );
    await expect(claimPicture(join(path, 'b.svg'))).rejects.toThrow('is not a folder');
  });
});
