import { execFileSync } from 'node:child_process';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { markOf, self } from '../formats/io/owner.js';
import { contentOf, stagedIn } from '../formats/io/staging.js';
import { writeFolderAtomic } from '../formats/io/write.js';
import { EVENTS_FILE, readEvents } from '../train/tensorboard.js';
import type { Metric } from './metric.js';
import { type ClaimOptions, RunFolder, type RunRecord, readRun, readUnfinishedRun } from './runFolder.js';

let root: string;
let path: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'lowrank-run-'));
  path = join(root, 'out');
});
afterEach(async () => {
  await release();
  await rm(root, { recursive: true });
});

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

/** Begins as a process does that does not end. */
async function started(): Promise<RunFolder> {
  const folder = await claim();
  await folder.begin(record, 0);
  for (const n of [1, 2, 3]) await folder.record(step(n));
  return folder;
}

const claimed: RunFolder[] = [];
async function claim(options?: ClaimOptions): Promise<RunFolder> {
  const folder = await RunFolder.claim(path, options);
  claimed.push(folder);
  return folder;
}

/** As the end of the process does. */
async function release(): Promise<void> {
  for (const folder of claimed.splice(0)) await folder.release();
}

/** What is in the run folder, locks left out. */
const content = async () => contentOf(await readdir(path)).sort();

describe('a run folder', () => {
  it('is not touched by a claim', async () => {
    await claim();
    expect(await readdir(root)).toEqual([]);
  });

  it('goes on behind a step, without what came later or was cut short', async () => {
    await started();
    await release();
    await appendFile(join(path, 'metrics.jsonl'), '{"kind":"step","step":1');
    const folder = await claim({ resume: true });
    expect((await folder.begin(record, 2)).map((m) => m.step)).toEqual([1, 2]);
    await folder.record(step(3));
    expect(await metrics()).toEqual([1, 2, 3]);
    expect(await readUnfinishedRun(path)).toEqual(record);
  });

  it.each(['metrics.jsonl', 'samples.jsonl', 'run.json'])(
    'a pipe in place of %s is refused at once',
    async (name) => {
      await started();
      await release();
      await rm(join(path, name), { force: true });
      execFileSync('mkfifo', [join(path, name)]);
      const message = `cannot read ${join(path, name)}: it is a pipe or a device, not a regular file`;
      if (name === 'run.json') {
        await expect(readRun(path)).rejects.toThrow(message);
        return;
      }
      const folder = await claim({ resume: true });
      await expect(folder.begin(record, 2)).rejects.toThrow(message);
    },
  );

  it('whose run.json is damaged says so, and how to begin anew', async () => {
    await started();
    await release();
    await writeFile(join(path, 'run.json'), '{"status": "run');
    const message =
      /run\.json is not valid JSON: .*; the run cannot be gone on with: start over with --overwrite$/;
    await expect(claim()).rejects.toThrow(message);
    await expect(claim({ resume: true })).rejects.toThrow(message);
    await claim({ overwrite: true });
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
    await release();
    await (await claim({ resume: true })).begin(record, 2);
    expect((await lines()).map((text) => JSON.parse(text))).toEqual([0, 2].map(sample));
    await release();
    await (await claim({ resume: true })).begin(record, 0);
    expect(await content()).toEqual(['metrics.jsonl', 'run.json']);
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
    expect(await content()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'loss.svg',
      'metrics.jsonl',
      'note.txt',
      'run.json',
    ]);
    await release();
    await expect(claim({ resume: true })).rejects.toThrow(/is complete/);
  });

  it('keeps its checkpoints where the result cannot be written', async () => {
    const folder = await started();
    await mkdir(join(path, 'checkpoints', 'step-00000003'), { recursive: true });
    const failing = folder.finish({ ...record, status: 'complete' }, () => Promise.reject(new Error('full')));
    await expect(failing).rejects.toThrow('full');
    expect(await content()).toEqual(['checkpoints', 'metrics.jsonl', 'run.json']);
    expect((await readUnfinishedRun(path)).status).toBe('running');
  });

  it('is refused where something is, and says how to go on', async () => {
    await started();
    await release();
    await expect(claim()).rejects.toThrow(/unfinished run without a checkpoint; go on with --resume/);
    await mkdir(join(path, 'checkpoints', 'step-00000003'), { recursive: true });
    await expect(claim()).rejects.toThrow(/holds an unfinished run; go on with --resume/);
    await expect(claim({ resume: true, overwrite: true })).rejects.toThrow(/not both/);
  });

  it('is overwritten whole, and only where nothing else is lost', async () => {
    await started();
    await release();
    await writeFile(join(path, 'rows.jsonl'), '');
    const inputs = [join(path, 'rows.jsonl')];
    await expect(claim({ overwrite: true, inputs })).rejects.toThrow(/rows\.jsonl, which the job reads/);
    const folder = await claim({ overwrite: true, inputs: [root] });
    expect(await metrics()).toEqual([1, 2, 3]);
    await folder.begin(record, 0);
    expect(await content()).toEqual(['metrics.jsonl', 'run.json']);
  });

  it('may be an empty folder', async () => {
    await mkdir(path);
    await (await claim()).begin(record, 0);
    expect(await content()).toEqual(['metrics.jsonl', 'run.json']);
  });

  it('is for one run at a time', async () => {
    const folder = await started();
    for (const options of [{}, { resume: true }, { overwrite: true }]) {
      await expect(claim(options)).rejects.toThrow(/out is in use: this process trains into it$/);
    }
    expect(await metrics()).toEqual([1, 2, 3]);
    await folder.release();
    await claim({ resume: true });
  });

  it('of two that begin at once in a new folder takes one', async () => {
    const folders = [await claim(), await claim()];
    const begun = await Promise.allSettled(folders.map((folder) => folder.begin(record, 0)));
    const refused = begun.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : []));
    expect(refused.length, String(refused)).toBeGreaterThan(0);
    for (const reason of refused) expect(reason).toMatch(/is in use|unfinished run/);
  });

  const left = (what: string, stage: string) =>
    join(path, `.${what}.lowrank-${markOf({ ...self, start: self.start + 1 })}-0123456789ab.${stage}`);

  it('that a dead process had is free', async () => {
    await started();
    await release();
    await writeFile(left('run', 'lock'), '');
    await claim({ resume: true });
    expect((await stagedIn(path)).map(({ owner }) => owner)).toEqual([self]);
  });

  it('is empty where a process died before run.json was in it', async () => {
    for (const options of [{}, { overwrite: true }]) {
      await mkdir(path);
      await writeFile(left('run', 'lock'), '');
      await writeFile(left('run.json', 'tmp'), '{"sta');
      await expect(claim({ resume: true })).rejects.toThrow(
        /there is no run to resume in .*; without --resume one begins/,
      );
      await writeFile(left('run', 'lock'), '');
      await expect(readUnfinishedRun(path)).rejects.toThrow(/there is no run to resume in /);
      expect(await stagedIn(path)).toEqual([]);
      await (await claim(options)).begin(record, 0);
      expect(await content()).toEqual(['metrics.jsonl', 'run.json']);
      await release();
      expect(await stagedIn(path)).toEqual([]);
      await rm(path, { recursive: true });
    }
  });

  it('has its run again where a process died while it replaced it', async () => {
    await started();
    await release();
    const old = left('output', 'old');
    await mkdir(old);
    await rename(join(path, 'run.json'), join(old, 'run.json'));
    await claim({ resume: true });
    expect(await content()).toEqual(['metrics.jsonl', 'run.json']);
    expect(await metrics()).toEqual([1, 2, 3]);
  });

  it('loses the checkpoints of a complete run, where a process died before it removed them', async () => {
    const folder = await started();
    await folder.finish({ ...record, status: 'complete' }, (staging) =>
      writeFolderAtomic(staging, (temporary) => writeFile(join(temporary, 'adapter_config.json'), '{}')),
    );
    await release();
    await mkdir(join(path, 'checkpoints', 'step-00000003'), { recursive: true });
    await expect(claim()).rejects.toThrow(/exists already/);
    expect(await content()).not.toContain('checkpoints');
  });
});

it('writes what an objective measures under the tags that other tools use', async () => {
  const folder = await claim();
  await folder.begin(record, 0, { tensorboard: true });
  await folder.record({ ...step(1), rewardsMargins: 0.5, rewardsAccuracies: 0.75 } as Metric);
  await folder.record({
    kind: 'eval',
    step: 1,
    loss: 2,
    perplexity: 4,
    rewardsChosen: 0.25,
    tokens: 1,
    best: true,
  });
  const found = (await readEvents(join(path, EVENTS_FILE))).map(({ scalars }) => scalars);
  expect(found[0]).toMatchObject({
    'train/loss': 1,
    'train/rewards/margins': 0.5,
    'train/rewards/accuracies': 0.75,
  });
  expect(found[1]).toEqual({ 'eval/loss': 2, 'eval/perplexity': 4, 'eval/rewards/chosen': 0.25 });
});
