import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { RunFolder, type RunRecord } from '../api/runFolder.js';
import { runs } from './runs.js';
import { Terminal } from './terminal.js';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lowrank-runs-'));
  for (const [name, learningRate, last] of [
    ['fast', 0.01, 60],
    ['slow', 0.001, 40],
  ] as const) {
    const options = { method: 'lora', r: 8, output: name, targetModules: ['q_proj', 'v_proj'], learningRate };
    const record: RunRecord = { status: 'running', options, command: 'c', model: {}, sessions: [] };
    const folder = await RunFolder.claim(join(root, name));
    await folder.begin(record, 0);
    for (let step = 1; step <= last; step++) {
      await folder.record({
        ...{ kind: 'step', step, steps: 60, epoch: 0, learningRate, gradNorm: 1, tokens: step },
        ...{ loss: 5 - step * learningRate * 5, tokensPerSecond: 1, secondsLeft: 1 },
      });
    }
  }
});
afterAll(() => rm(root, { recursive: true }));

async function shown(columns: number | undefined, folder = root): Promise<string[]> {
  const lines: string[] = [];
  const terminal = new Terminal(false);
  vi.spyOn(terminal, 'columns', 'get').mockReturnValue(columns);
  vi.spyOn(terminal, 'say').mockImplementation((text = '') => void lines.push(text));
  await runs.run({ folder }, terminal);
  return lines;
}

describe('the picture of runs', () => {
  it('shows their curves by name, and is refused before anything is told where it may not be', async () => {
    const [svg, png] = ['curves.svg', 'curves.png'].map((name) => join(root, name));
    const lines: string[] = [];
    const terminal = new Terminal(false);
    vi.spyOn(terminal, 'say').mockImplementation((text = '') => void lines.push(text));
    await runs.run({ folder: root, picture: svg }, terminal);
    expect(lines.at(-1)).toBe(`drew ${svg}`);
    const drawn = await readFile(svg, 'utf8');
    for (const text of ['>fast<', '>slow<', 'fast: 60 points']) expect(drawn).toContain(text);
    await runs.run({ folder: root, picture: png, theme: 'dark' }, terminal);
    expect((await readFile(png)).subarray(1, 4).toString()).toBe('PNG');
    lines.length = 0;
    await expect(runs.run({ folder: root, picture: svg }, terminal)).rejects.toThrow('exists already');
    await expect(runs.run({ folder: root, picture: 'a.gif' }, terminal)).rejects.toThrow('.svg or .png');
    expect(lines).toEqual([]);
    await runs.run({ folder: root, picture: svg, overwrite: true, theme: 'light' }, terminal);
    expect(await readFile(svg, 'utf8')).not.toContain('@media');
  });
});

describe('the comparison of runs', () => {
  it('has the options that differ, and the curves at the same steps', async () => {
    expect((await shown(undefined)).join('\n')).toMatchInlineSnapshot(`
      "run   status      trained   steps     loss              held out
      fast  unfinished  lora r=8  60        4.9500 -> 2.1500  -
      slow  unfinished  lora r=8  40 of 60  4.9950 -> 4.8100  -

      options that differ
        fast: learning-rate 0.01
        slow: learning-rate 0.001

      training loss                            step 10  step 20  step 30  step 40  step 50  step 60
      fast           ███▇▇▇▆▆▆▅▅▅▄▄▄▃▃▃▂▂▂▁▁▁  4.5250   4.0500   3.5750   3.1000   2.6250   2.1500
      slow           ████████████████          4.9525   4.9050   4.8575   4.8100   -        -"
    `);
  });

  it('has held-out losses at the steps at which one was measured', async () => {
    const parent = await mkdtemp(join(tmpdir(), 'lowrank-runs-'));
    try {
      const record: RunRecord = { status: 'running', options: {}, command: 'c', model: {}, sessions: [] };
      const folder = await RunFolder.claim(join(parent, 'one'));
      await folder.begin(record, 0);
      const measure = (step: number, loss: number) =>
        folder.record({ kind: 'eval', step, loss, best: true } as Parameters<RunFolder['record']>[0]);
      await measure(0, 5);
      for (let step = 1; step <= 60; step++) {
        await folder.record({
          ...{ kind: 'step', step, steps: 60, epoch: 0, learningRate: 1, gradNorm: 1, tokens: step },
          ...{ loss: 4, tokensPerSecond: 1, secondsLeft: 1 },
        });
        if (step === 37) await measure(step, 3.5);
      }
      await measure(60, 3);
      await folder.release();
      const lines = await shown(undefined, parent);
      const at = lines.findIndex((line) => line.startsWith('held-out loss'));
      expect(lines[at].trim().split(/ {2,}/)).toEqual(['held-out loss', 'step 37', 'step 60']);
      expect(lines[at + 1]).toMatch(/3\.5000 +3\.0000$/);
    } finally {
      await rm(parent, { recursive: true });
    }
  });

  it.each([50, 60, 80, 120])('fits %i columns, with all that a wider one has', async (columns) => {
    const lines = await shown(columns);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
    const head = lines.slice(0, lines.indexOf('options that differ')).join(' ');
    for (const part of ['fast', 'unfinished', 'lora r=8', '40 of 60', '4.9950 -> 4.8100'])
      expect(head).toContain(part);
  });

  it.each([40, 80, 120])('keeps its curves within %i columns', async (columns) => {
    const lines = await shown(columns);
    const curves = lines.slice(lines.findIndex((line) => line.startsWith('training loss')));
    expect(curves).toHaveLength(3);
    for (const line of curves) expect(line.length).toBeLessThanOrEqual(columns);
    expect(curves[0]).toContain('step 60');
  });
});

it.each([60, 120])(
  'a complete run that taught nothing is listed with what its end said, in %i columns',
  async (columns) => {
    const parent = await mkdtemp(join(tmpdir(), 'lowrank-runs-'));
    try {
      const record: RunRecord = { status: 'running', options: {}, command: 'c', model: {}, sessions: [] };
      for (const name of ['flat', 'going']) {
        const folder = await RunFolder.claim(join(parent, name));
        await folder.begin(record, 0);
        for (let step = 1; step <= 30; step++) {
          await folder.record({
            ...{ kind: 'step', step, steps: 30, epoch: 0, learningRate: 1, gradNorm: 1, tokens: step },
            ...{ loss: 4, tokensPerSecond: 1, secondsLeft: 1 },
          });
        }
        if (name === 'flat') await folder.finish({ ...record, status: 'complete' }, (path) => mkdir(path));
        await folder.release();
      }
      const lines = await shown(columns, parent);
      for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
      const warned = lines.slice(
        lines.indexOf('warnings') + 1,
        lines.findIndex((line) => line.startsWith('training')) - 1,
      );
      expect(warned.map((line) => line.trim()).join(' ')).toBe(
        'flat: the training loss did not move: 4.0000 -> 4.0000; ' +
          'try a higher learning rate (--find-lr looks for one) or more epochs',
      );
    } finally {
      await rm(parent, { recursive: true });
    }
  },
);
