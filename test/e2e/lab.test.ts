/** `lowrank lab` from outside: it ends with the same table whatever happens on its way. LAB_SEED says when it is killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Rng } from '../../src/base/rng.js';
import { jsonLines, makeWorkspace, run, start } from './cliSupport.js';

const command = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const fullDisk = fileURLToPath(new URL('./fullDisk.mjs', import.meta.url));
const seed = Number(process.env.LAB_SEED ?? Math.floor(Math.random() * 2 ** 31));
const KILLS = 10;

const grid = `
name: ranks
title: Ranks
base: { model: model, data: train.jsonl, eval_data: heldout.jsonl, batch_size: 8, max_steps: 12, save_steps: 2, threads: 1 }
axes:
  seed: [0, 1]
  r: [1, 2, 4]
tables:
  - rows: r
    metrics: [held_out, train_loss, trainable, tokens]
`;

let cwd: string;
beforeAll(async () => {
  cwd = await makeWorkspace();
  await writeFile(join(cwd, 'grid.yaml'), grid);
});
afterAll(() => rm(cwd, { recursive: true, force: true }));

const lab = (output: string, ...more: string[]) => ['lab', 'grid.yaml', '--output', output, ...more];

/** The tables and the figures of a lab, without what tells of time. */
async function resultsOf(output: string): Promise<unknown> {
  const { code, stdout, stderr } = await run(cwd, ['lab', '--output', output, '--export', 'json']);
  expect(code, stderr).toBe(0);
  const { tables, runs } = JSON.parse(stdout) as { tables: unknown; runs: Record<string, unknown>[] };
  const figures = runs.map(({ id, status, metrics }) => {
    const { seconds: _, ...others } = metrics as Record<string, number>;
    return { id, status, ...others };
  });
  return { tables, figures: figures.sort((a, b) => String(a.id).localeCompare(String(b.id))) };
}

/** What processes leave that have something under way, in a lab's folder and below. */
async function leftovers(output: string): Promise<string[]> {
  const names = await readdir(join(cwd, output), { recursive: true });
  return names.filter((name) => /(^|\/)\.|checkpoints/.test(name));
}

/** The command as a process group of its own. */
function startGroup(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(process.execPath, [command, ...args], {
    cwd,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LOWRANK_CACHE: join(cwd, 'cache'), ...env },
  });
}

async function textOf(stream: NodeJS.ReadableStream): Promise<string> {
  let text = '';
  for await (const piece of stream) text += piece;
  return text;
}

describe('a lab', () => {
  let whole: unknown;

  it('runs all of a grid, and tells of it', async () => {
    const { code, stdout, stderr } = await run(cwd, lab('whole', '--workers', '2'));
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^lab {7}Ranks: 6 runs\n/);
    expect(stdout).toMatch(/^6\/6 {2}seed=\d, r=\d {2}held-out loss \d/m);
    expect(stdout).toMatch(
      /^r {2}held-out loss +training loss +parameters trained +tokens *\n1 {2}\d\.\d{4} ± 0\.\d{4} /m,
    );
    expect(await leftovers('whole')).toEqual([]);
    whole = await resultsOf('whole');
    // Of what is not done yet it is told how long it may take, and of all what it takes in memory.
    const more = ['--seeds', '0,1,2', '--dry-run'];
    const planned = await run(cwd, lab('whole', ...more));
    expect(planned.stdout).toMatch(/^Ranks: 9 runs, 6 of them done$/m);
    expect(planned.stdout).toMatch(/^seed=0, r=1 +12 +[\d,]+ +\d+\.\d MB +done$/m);
    expect(planned.stdout).toMatch(/^seed=2, r=4 +12 +[\d,]+ +\d+\.\d MB +(under )?\d+ s$/m);
    expect(planned.stdout).toMatch(/^memory +at most \d+\.\d MB by forecast; [\d.]+ .B are free$/m);
    expect(planned.stdout).toMatch(
      /^time +about (under )?\d+ s for 3 runs to do, by what those took that are done$/m,
    );
    const events = jsonLines((await run(cwd, lab('whole', ...more, '--json'))).stdout);
    for (const { done, seconds, memory } of events) {
      expect(memory).toBeGreaterThan(1e8);
      expect(typeof seconds).toBe(done ? 'undefined' : 'number');
    }
    // Done once is done.
    const again = jsonLines((await run(cwd, lab('whole', '--json'))).stdout);
    expect(again.map(({ kind }) => kind)).toEqual(['table', 'end']);
    expect(await resultsOf('whole')).toEqual(whole);
    const { stdout: csv } = await run(cwd, ['lab', '--output', 'whole', '--export', 'csv']);
    expect(csv.split('\r\n')[0]).toMatch(/^run,kind,seed,r,status,heldOut,/);
    expect(csv.split('\r\n')).toHaveLength(8);
    const draw = ['lab', '--output', 'whole', '--picture', 'whole.svg'];
    expect((await run(cwd, draw)).stdout).toMatch(/^drew whole\.svg$/m);
    expect((await run(cwd, draw)).stderr).toBe(
      'lowrank: whole.svg exists already; choose another file, or replace it by --overwrite\n',
    );
    expect((await run(cwd, [...draw, '--overwrite', '--theme', 'dark'])).code).toBe(0);
    expect(await readFile(join(cwd, 'whole.svg'), 'utf8')).toContain('lowrank-dark');
    expect((await run(cwd, lab('whole', '--overwrite'))).stderr).toBe(
      'lowrank: --overwrite is for --picture\n',
    );
    expect((await run(cwd, ['runs', 'whole/runs'])).code).toBe(0);
  });

  it(`that is killed ${KILLS} times with all its processes ends with the same table`, async () => {
    const rng = new Rng(seed, 'kills of a lab');
    const said = `LAB_SEED=${seed}`;
    for (let kills = 0; kills < KILLS; kills++) {
      const child = startGroup(lab('killed', '--workers', '2', '--json'));
      const ended = once(child, 'close');
      const errors = textOf(child.stderr!);
      // One in three before anything is done, the others with runs under way.
      const early = rng.below(3) === 0;
      if (!early) await Promise.race([once(child.stdout!, 'data'), ended]);
      child.stdout!.resume();
      await new Promise((resolve) => setTimeout(resolve, rng.below(early ? 400 : 1200)));
      if (child.exitCode === null) process.kill(-child.pid!, 'SIGKILL');
      const [code] = await ended;
      if (code === null) continue;
      // It was quicker: the rest of the kills are for another one.
      expect(code, `${said}: ${await errors}`).toBe(0);
      expect(await resultsOf('killed'), said).toEqual(whole);
      await rm(join(cwd, 'killed'), { recursive: true });
    }
    const { code, stderr, stdout } = await run(cwd, lab('killed', '--workers', '2'));
    expect(code, `${said}: ${stdout}${stderr}`).toBe(0);
    expect(await resultsOf('killed'), said).toEqual(whole);
    expect(await leftovers('killed'), said).toEqual([]);
  });

  it('that is interrupted saves, says how to go on, and refuses a second one meanwhile', async () => {
    const long = [...lab('long', '--max-steps', '400'), '--only', 'r=4', '--only', 'seed=0'];
    const first = start(cwd, [...long, '--json']);
    await first.sees(/"kind":"progress"/);
    const second = await run(cwd, long);
    expect(second).toMatchObject({ code: 1, stdout: '' });
    expect(second.stderr).toMatch(/^lowrank: long is in use: process \d+ runs a lab in it\n$/);
    first.kill('SIGINT');
    const { code, stderr } = await first.outcome;
    expect(code).toBe(130);
    expect(stderr).toMatch(
      /stopped with 1 run to do; to go on: lowrank lab grid.yaml --output long .*--only r=4/,
    );
    const [name] = await readdir(join(cwd, 'long', 'runs'));
    expect(await readdir(join(cwd, 'long', 'runs', name, 'checkpoints'))).not.toEqual([]);
    const other = await run(cwd, ['lab', 'which-rank', '--output', 'long']);
    expect(other.stderr).toBe('lowrank: long holds the lab ranks, not which-rank; choose another output\n');
  });

  it('tries a run again whose process died, and goes on behind one that fails', async () => {
    const text = grid.replace(
      'r: [1, 2, 4]',
      'r: [1]\n  rate: { fine: { learning_rate: 1e-3 }, wild: { learning_rate: 1e30 } }',
    );
    await writeFile(
      join(cwd, 'wild.yaml'),
      text.replace('max_steps: 12', 'max_steps: 40').replace('rows: r', 'rows: rate'),
    );
    const child = start(cwd, ['lab', 'wild.yaml', '--output', 'wild', '--json']);
    await child.sees(/"kind":"progress"/);
    // The process of the only worker.
    const { stdout: processes } = await new Promise<{ stdout: string }>((resolve, reject) => {
      const ps = spawn('ps', ['-eo', 'pid,args']);
      textOf(ps.stdout).then((stdout) => resolve({ stdout }), reject);
    });
    const worker = processes
      .split('\n')
      .filter((line) => line.includes(command.replace('cli/main.js', 'lab/worker.js')));
    expect(worker).toHaveLength(1);
    process.kill(Number.parseInt(worker[0], 10), 'SIGKILL');
    const { code, stdout } = await child.outcome;
    expect(code).toBe(1);
    const events = jsonLines(stdout);
    expect(events.filter(({ kind }) => kind === 'again').map(({ why }) => why)).toEqual([
      'its process died (SIGKILL)',
    ]);
    const failed = events.filter(({ kind }) => kind === 'failed');
    expect(failed.map(({ name }) => name)).toEqual(['seed=0, r=1, rate=wild', 'seed=1, r=1, rate=wild']);
    expect(failed[0].message).toMatch(/^training stopped at step \d+: .*try a lower learning rate/);
    expect(events.at(-1)).toEqual({ kind: 'end', failed: 2, left: 0 });
    const { stdout: table } = await run(cwd, ['lab', '--output', 'wild', '--export', 'markdown']);
    expect(table).toMatch(/\| fine \| \d.*\n\| wild \| failed \|/);
  });

  it('on a disk that fills ends with one sentence, and keeps what was done', async () => {
    const child = startGroup(lab('full'), {
      NODE_OPTIONS: `--import ${fullDisk}`,
      FULL_BELOW: join('runs', 'seed=0_r=4'),
    });
    const errors = textOf(child.stderr!);
    child.stdout!.resume();
    const [code] = await once(child, 'close');
    expect(await errors).toMatch(
      /^lowrank: cannot write \S*seed=0_r=4\S*: the disk is full; the runs that are done are kept\n$/,
    );
    expect(code).toBe(1);
    const { stdout } = await run(cwd, ['lab', '--output', 'full', '--export', 'csv']);
    expect(
      stdout
        .split('\r\n')
        .slice(1, -1)
        .map((line) => line.split(',').slice(2, 5).join(' ')),
    ).toEqual(['0 1 done', '0 2 done']);
    expect((await run(cwd, lab('full'))).code).toBe(0);
    expect(await resultsOf('full')).toEqual(whole);
  });

  it('compares what was trained: an adapter is itself, and its change is what W was given', async () => {
    const text = `
name: compared
title: Compared
kind: compare
base: { model: model, data: train.jsonl, batch_size: 8, max_steps: 4, threads: 1, target_modules: [q_proj], r: 2 }
axes:
  pair: { itself: { against: { seed: 0 } }, another seed: { against: { seed: 1 } }, random: , over nf4: { quantize: nf4 } }
tables:
  - { rows: pair, metrics: [phi_first, phi_all, amplification, layers] }
`;
    await writeFile(join(cwd, 'compare.yaml'), text);
    const { code, stdout, stderr } = await run(cwd, [
      'lab',
      'compare.yaml',
      '--output',
      'compared',
      '--json',
    ]);
    expect(code, stderr).toBe(0);
    const events = jsonLines(stdout);
    expect(events.filter(({ kind }) => kind === 'done').map(({ name }) => name)).toEqual([
      'training for pair=itself',
      'pair=itself',
      'other training for pair=another seed',
      'pair=another seed',
      'pair=random',
      'training for pair=over nf4',
      'pair=over nf4',
    ]);
    const results = events
      .filter(({ kind }) => kind === 'done')
      .map(({ result }) => result as { metrics: Record<string, number> });
    const [itself, other, random, quantized] = [1, 3, 4, 6].map((i) => results[i].metrics);
    expect(itself).toMatchObject({ layers: 2 });
    expect(
      [itself.phiFirst, itself.phiFirstInAll, itself.phiAll].map((phi) => Number(phi.toFixed(6))),
    ).toEqual([1, 1, 1]);
    for (const { phiFirst, phiAll } of [other, random]) {
      expect(phiFirst).toBeGreaterThanOrEqual(0);
      expect(phiAll).toBeLessThan(0.9);
    }
    // One change, beside whatever: the same figures.
    expect(random.amplification).toBe(itself.amplification);
    expect(random.changeNorm).toBe(itself.changeNorm);
    // What was trained over a quantized base is set beside that.
    expect(quantized.weightNorm).not.toBe(random.weightNorm);
    expect(quantized.weightNorm / random.weightNorm).toBeCloseTo(1, 1);
    const table = events.find(({ kind }) => kind === 'table') as { rows: { label: string }[] };
    expect(table.rows.map(({ label }) => label)).toEqual(['itself', 'another seed', 'random', 'over nf4']);
  });

  it('measures a forward pass beside that of the base', async () => {
    const text = `
name: times
title: Times
kind: latency
base: { model: model, rounds: 3, length: 16, threads: 1 }
axes:
  form: { base: , merged: { method: lora, r: 2, merged: true }, AdapterH: { method: houlsby, bottleneck_size: 4 } }
tables:
  - { rows: form, metrics: [ratio, milliseconds, trainable] }
`;
    await writeFile(join(cwd, 'latency.yaml'), text);
    const { code, stdout, stderr } = await run(cwd, ['lab', 'latency.yaml', '--output', 'times', '--json']);
    expect(code, stderr).toBe(0);
    const done = jsonLines(stdout).filter(({ kind }) => kind === 'done');
    const results = done.map(
      ({ result }) => result as { metrics: Record<string, number>; detail: { times: unknown[] } },
    );
    for (const { metrics, detail } of results) {
      expect(detail.times).toHaveLength(3);
      expect(metrics.low).toBeLessThanOrEqual(metrics.ratio);
      expect(metrics.ratio).toBeLessThanOrEqual(metrics.high);
      expect(metrics.milliseconds).toBeGreaterThan(0);
    }
    expect(results.map(({ metrics }) => metrics.trainable)[0]).toBe(0);
    expect(results.map(({ metrics }) => metrics.trainable)[2]).toBeGreaterThan(0);
  });

  it.each([
    [['lab', 'grid.yaml'], 2, '--output is missing (see --help)'],
    [['lab', 'which-rnak'], 1, 'there is no grid which-rnak, did you mean "which-rank"?'],
    [['lab', '--export', 'csv'], 2, '--export is of a lab: name its folder with --output'],
    [
      ['lab', '--output', 'model', '--export', 'csv'],
      1,
      'model holds no results of a lab (no results.sqlite)',
    ],
    [['lab', 'grid.yaml', '--output', 'model'], 1, 'model holds other files already; choose another output'],
    [
      ['lab', 'grid.yaml', '--output', 'x', '--only', 'r=3'],
      1,
      '--only r=3: the axis "r" has the values 1, 2, 4',
    ],
  ])('%j is refused', async (args, code, message) => {
    expect(await run(cwd, args)).toMatchObject({ code, stdout: '', stderr: `lowrank: ${message}\n` });
  });

  it('lists the grids that come along, and the runs of one', async () => {
    const { stdout } = await run(cwd, ['lab']);
    expect(stdout).toContain('which-rank');
    vi.stubEnv('COLUMNS', '60');
    const narrow = (await run(cwd, ['lab'])).stdout;
    vi.unstubAllEnvs();
    expect(narrow).toContain('foreign-domain\n  what it asks  Ranks in a domain near and far\n');
    expect(Math.max(...narrow.split('\n').map((line) => line.length))).toBeLessThanOrEqual(60);
    const planned = jsonLines((await run(cwd, lab('x', '--dry-run', '--seeds', '5,6', '--json'))).stdout);
    expect(planned.map(({ name }) => name)).toHaveLength(6);
    expect(planned[5]).toMatchObject({ name: 'seed=6, r=4', steps: 12, options: { seed: 6, r: 4 } });
    expect(await readFile(join(cwd, 'x')).catch(() => 'nothing')).toBe('nothing');
  });
});
