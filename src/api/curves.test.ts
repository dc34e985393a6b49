import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lossCurveSvg, runCurvesSvg } from './curveSvg.js';
import { curvesOf, heldOutLossAt, smoothTrainLoss, trainLossAt } from './curves.js';
import type { Metric } from './metric.js';
import { RunFolder, type RunRecord } from './runFolder.js';
import { listRuns } from './runs.js';

const step = (n: number, loss = 1 / n): Metric => ({
  kind: 'step',
  step: n,
  steps: 9,
  epoch: 0,
  loss,
  learningRate: 1,
  gradNorm: 1,
  tokens: n,
  tokensPerSecond: 1,
  secondsLeft: 1,
});
const evaluation = (n: number, loss: number): Metric => ({
  kind: 'eval',
  step: n,
  loss,
  perplexity: Math.exp(loss),
  tokens: 1,
  best: true,
});
const record: RunRecord = {
  status: 'running',
  options: { r: 8, method: 'lora' },
  command: 'lowrank train',
  model: {},
  sessions: [],
};

describe('losses at a step', () => {
  const curves = curvesOf([
    evaluation(0, 5),
    ...Array.from({ length: 20 }, (_, i) => step(i + 1, i + 1)),
    evaluation(15, 3),
  ]);

  it('are the mean of the last tenth, and the last evaluation', () => {
    expect(trainLossAt(curves, 1)).toBe(1);
    expect(trainLossAt(curves, 20)).toBe((18 + 19 + 20) / 3);
    expect(trainLossAt(curves, 21)).toBeUndefined();
    expect([0, 14, 15, 20, 21].map((at) => heldOutLossAt(curves, at))).toEqual([
      5,
      undefined,
      3,
      undefined,
      undefined,
    ]);
  });
});

describe('the smooth training loss', () => {
  const smooth = (losses: readonly number[]) =>
    smoothTrainLoss({ train: losses.map((loss, i) => ({ step: i + 1, loss })) }).map(({ loss }) => loss);
  const noise = (i: number) => (i % 2 ? 0.5 : -0.5);

  it('is a straight line where the losses are one, up to both ends', () => {
    for (const steps of [1, 2, 3, 10, 100]) {
      const line = Array.from({ length: steps }, (_, i) => 5 - (3 * i) / steps);
      const fitted = smooth(line);
      for (const [i, loss] of line.entries()) expect(fitted[i]).toBeCloseTo(loss, 9);
    }
    expect(smooth([])).toEqual([]);
  });

  it('loses its noise, and ends where a falling loss is, not where it was', () => {
    const falling = Array.from({ length: 100 }, (_, i) => 5 - 4 * (i / 99));
    const fitted = smooth(falling.map((loss, i) => loss + noise(i)));
    for (let i = 10; i < 90; i++) expect(Math.abs(fitted[i] - falling[i])).toBeLessThan(0.06);
    expect(Math.abs(fitted[99] - 1)).toBeLessThan(0.3);
  });

  it('is exact at a step among very many', () => {
    const many = Array.from({ length: 200_000 }, (_, i) => 3 - i / 200_000);
    const fitted = smooth(many);
    for (const i of [0, 99_999, 199_999]) expect(fitted[i]).toBeCloseTo(many[i], 6);
  });
});

describe('the picture of a curve', () => {
  it('has every point within its frame, high losses above low ones', () => {
    const curves = curvesOf([evaluation(0, 4), step(1, 3.3), step(2, 2.9), step(3, 2.1), evaluation(3, 2)]);
    const svg = lossCurveSvg(curves, 'a <run> & "b"')!;
    expect(svg).toContain('a &#60;run&#62; &#38; &#34;b&#34;');
    const frame = svg.match(/class="plot" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"/)!;
    const [left, top, width, height] = frame.slice(1).map(Number);
    const faint = [...svg.matchAll(/class="curve faint"[^>]* d="([^"]*)"/g)].at(-1)![1];
    const raw = [...faint.matchAll(/[ML]([\d.]+),([\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
    expect(raw).toHaveLength(3);
    for (const [i, [x, y]] of raw.entries()) {
      expect(x > left && x <= left + width && y >= top && y <= top + height).toBe(true);
      if (i > 0) expect(x > raw[i - 1][0] && y > raw[i - 1][1]).toBe(true);
    }
    // The held-out losses, and their sample in the legend.
    expect(svg.match(/class="mark halo"/g)).toHaveLength(3);
  });

  it('draws one point, equal losses and very many, and nothing of none', () => {
    expect(lossCurveSvg({ train: [], heldOut: [] }, 'x')).toBeUndefined();
    expect(lossCurveSvg(curvesOf([step(1, 0)]), 'x')).not.toContain('NaN');
    expect(lossCurveSvg(curvesOf([step(1, 2), step(2, 2)]), 'x')).not.toMatch(/NaN|Infinity/);
    const many = curvesOf(Array.from({ length: 200_000 }, (_, i) => step(i + 1)));
    expect(lossCurveSvg(many, 'x')!.length).toBeLessThan(50_000);
  });
});

describe('the picture of several runs', () => {
  it('has a curve and a name for each, and marks where there are held-out losses', () => {
    const svg = runCurvesSvg(
      [
        { name: 'one', curves: curvesOf([step(1, 3), step(2, 2), evaluation(2, 1)]) },
        { name: 'two', curves: curvesOf([step(1, 4), step(2, 3)]) },
        { name: 'none', curves: curvesOf([]) },
      ],
      'runs',
    );
    for (const name of ['one', 'two']) expect(svg).toContain(`>${name}<`);
    expect(svg).toContain('lines: training loss without its noise; marks: held-out loss');
    expect(svg).toContain('one, marks: 1 at step 2.');
    // The mark of the held-out loss, and on the sample of its run.
    expect(svg.match(/class="mark halo"/g)).toHaveLength(2);
    expect(svg).not.toContain('>none<');
    expect(
      new Set([...svg.matchAll(/class="curve"[^>]* stroke="([^"]*)"/g)].map(([, stroke]) => stroke)).size,
    ).toBe(2);
  });
});

describe('runs in a folder', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'lowrank-runs-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  it('are listed with their status and curves', async () => {
    for (const name of ['b', 'a']) {
      const folder = await RunFolder.claim(join(root, name));
      await folder.begin(record, 0);
      await folder.record(evaluation(0, 5));
      for (const n of [1, 2, 3]) await folder.record(step(n));
      if (name === 'a') await folder.finish({ ...record, status: 'complete' }, (to) => makeResult(to));
    }
    const runs = await listRuns(root);
    expect(
      runs.map(({ name, status, trained, step: at, steps }) => [name, status, trained, at, steps]),
    ).toEqual([
      ['a', 'complete', 'lora r=8', 3, 9],
      ['b', 'running', 'lora r=8', 3, 9],
    ]);
    expect(runs[0].curves).toEqual({
      train: [1, 2, 3].map((n) => ({ step: n, loss: 1 / n })),
      heldOut: [{ step: 0, loss: 5 }],
    });
    expect((await listRuns(join(root, 'b'))).map(({ name }) => name)).toEqual(['b']);
  });

  it('are missed where there are none', async () => {
    await expect(listRuns(root)).rejects.toThrow(`${root} holds no runs (folders with a run.json)`);
    await expect(listRuns(join(root, 'none'))).rejects.toThrow('cannot read');
  });
});

async function makeResult(folder: string): Promise<void> {
  await mkdir(folder);
  await writeFile(join(folder, 'adapter_config.json'), '{}');
}
