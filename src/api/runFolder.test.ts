import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeFolderAtomic } from '../formats/io/write.js';
import type { Metric } from './metric.js';
import { RunFolder, type RunRecord, readUnfinishedRun } from './runFolder.js';

let root: string;
let path: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'lowrank-run-'));
  path = join(root, 'out');
});
afterEach(() => rm(root, { recursive: true }));

const record: RunRecord = {
  status: 'running',
  options: { r: 8 },
  command: 'lowrank train',
  model: {},
  sessions: [],
};
const step = (n: number): Metric => ({
  kind: 'step',
  step: n,
  steps: 9,
  epoch: 0,
  loss: 1 / n,
  learningRate: 1,
  gradNorm: 1,
  tokens: n,
  tokensPerSecond: 1,
  secondsLeft: 1,
});
const metrics = async () =>
  (await readFile(join(path, 'metrics.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((text) => (JSON.parse(text) as Metric).step);

async function started(): Promise<RunFolder> {
  const folder = await RunFolder.claim(path);
  await folder.begin(record, 0);
  for (const n of [1, 2, 3]) await folder.record(step(n));
  return folder;
}

describe('a run folder', () => {
  it('is not touched by a claim', async () => {
    await RunFolder.claim(path);
    expect(await readdir(root)).toEqual([]);
  });

  it('goes on behind a step, without what came later or was cut short', async () => {
    await started();
    await appendFile(join(path, 'metrics.jsonl'), '{"kind":"step","step":1');
    const folder = await RunFolder.claim(path, { resume: true });
    expect((await folder.begin(record, 2)).map((m) => m.step)).toEqual([1, 2]);
    await folder.record(step(3));
    expect(await metrics()).toEqual([1, 2, 3]);
    expect(await readUnfinishedRun(path)).toEqual(record);
  });

  it('keeps generations apart, and of a resumed run those up to its step', async () => {
    const folder = await started();
    const sample = (n: number) => ({
      kind: 'sample' as const,
      step: n,
      prompt: 'p',
      text: `t${n}`,
      tokens: 1,
    });
    for (const n of [0, 2, 3]) await folder.record(sample(n));
    const lines = async () => (await readFile(join(path, 'samples.jsonl'), 'utf8')).trim().split('\n');
    expect((await lines()).map((text) => JSON.parse(text))).toEqual([0, 2, 3].map(sample));
    expect(await metrics()).toEqual([1, 2, 3]);
    await (await RunFolder.claim(path, { resume: true })).begin(record, 2);
    expect((await lines()).map((text) => JSON.parse(text))).toEqual([0, 2].map(sample));
    await (await RunFolder.claim(path, { resume: true })).begin(record, 0);
    expect((await readdir(path)).sort()).toEqual(['metrics.jsonl', 'run.json']);
  });

  it('ends with the result in the place of the checkpoints', async () => {
    const folder = await started();
    await mkdir(join(path, 'checkpoints', 'step-00000003'), { recursive: true });
    await writeFile(join(path, 'note.txt'), 'mine');
    const files = await folder.finish({ ...record, status: 'complete' }, (staging) =>
      writeFolderAtomic(staging, async (temporary) => {
        await writeFile(join(temporary, 'adapter_config.json'), '{}');
        await writeFile(join(temporary, 'adapter_model.safetensors'), 'x');
      }),
    );
    expect(files).toEqual(['adapter_model.safetensors', 'adapter_config.json']);
    expect((await readdir(path)).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'loss.svg',
      'metrics.jsonl',
      'note.txt',
      'run.json',
    ]);
    await expect(RunFolder.claim(path, { resume: true })).rejects.toThrow(/is complete/);
  });

  it('keeps its checkpoints where the result cannot be written', async () => {
    const folder = await started();
    await mkdir(join(path, 'checkpoints', 'step-00000003'), { recursive: true });
    const failing = folder.finish({ ...record, status: 'complete' }, () => Promise.reject(new Error('full')));
    await expect(failing).rejects.toThrow('full');
    expect((await readdir(path)).sort()).toEqual(['checkpoints', 'metrics.jsonl', 'run.json']);
    expect((await readUnfinishedRun(path)).status).toBe('running');
  });

  it('is refused where something is, and says how to go on', async () => {
    await started();
    await expect(RunFolder.claim(path)).rejects.toThrow(
      /unfinished run without a checkpoint; go on with --resume/,
    );
    await mkdir(join(path, 'checkpoints', 'step-00000003'), { recursive: true });
    await expect(RunFolder.claim(path)).rejects.toThrow(/holds an unfinished run; go on with --resume/);
    await expect(RunFolder.claim(path, { resume: true, overwrite: true })).rejects.toThrow(/not both/);
  });

  it('is overwritten whole, and only where nothing else is lost', async () => {
    await started();
    await writeFile(join(path, 'rows.jsonl'), '');
    const inputs = [join(path, 'rows.jsonl')];
    await expect(RunFolder.claim(path, { overwrite: true, inputs })).rejects.toThrow(
      /rows\.jsonl, which the job reads/,
    );
    const folder = await RunFolder.claim(path, { overwrite: true, inputs: [root] });
    expect(await metrics()).toEqual([1, 2, 3]);
    await folder.begin(record, 0);
    expect((await readdir(path)).sort()).toEqual(['metrics.jsonl', 'run.json']);
  });

  it('may be an empty folder', async () => {
    await mkdir(path);
    await (await RunFolder.claim(path)).begin(record, 0);
    expect((await readdir(path)).sort()).toEqual(['metrics.jsonl', 'run.json']);
  });
});
