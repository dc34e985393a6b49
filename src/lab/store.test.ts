import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import initSqlJs, { type Database } from 'sql.js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PlannedRun } from './run.js';
import { RESULTS_FILE, ResultStore } from './store.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowrank-store-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const run = (id: string): PlannedRun => ({
  id,
  name: `seed=${id}`,
  kind: 'train',
  labels: { seed: id },
  options: { seed: 1, targetModules: ['q_proj'] },
  needs: [],
  facts: {},
});
const open = () => ResultStore.open(folder, { create: true });

/** Changes a file of results as another program would. */
async function edit(change: (database: Database) => void): Promise<void> {
  const path = join(folder, RESULTS_FILE);
  const { Database } = await initSqlJs();
  const database = new Database(await readFile(path).catch(() => undefined));
  change(database);
  await writeFile(path, database.export());
  database.close();
}

describe('the results of a lab', () => {
  it('are as they were put, and the later of two of one run counts', async () => {
    const store = await open();
    await store.set('name', 'which-rank');
    await store.put(run('a'), { error: 'it diverged' });
    await store.put(run('b'), { metrics: { heldOut: 1.25, steps: 3 }, detail: { curve: [1, 2] } });
    await store.put(run('a'), { metrics: { heldOut: 0.1 } });
    store.close();
    const read = await ResultStore.open(folder);
    expect(read.get('name')).toBe('which-rank');
    expect(read.get('grid')).toBeUndefined();
    const { id: _a, facts: _f, needs: _n, ...common } = run('a');
    const b = { ...common, id: 'b', name: 'seed=b', labels: { seed: 'b' } };
    expect(read.runs().map(({ finished: _, ...rest }) => rest)).toEqual([
      { ...b, status: 'done', metrics: { heldOut: 1.25, steps: 3 }, detail: { curve: [1, 2] } },
      { ...common, id: 'a', status: 'done', metrics: { heldOut: 0.1 }, detail: undefined },
    ]);
    read.close();
    expect(await readdir(folder)).toEqual([RESULTS_FILE]);
  });

  it('are all there when several are put at once', async () => {
    for (let round = 0; round < 5; round++) {
      const store = await open();
      const ids = Array.from({ length: 20 }, (_, i) => `${round}-${i}`);
      // Results of different lengths take different times to write.
      const detail = (i: number) => 'x'.repeat(i % 2 === 0 ? 200_000 : 1);
      await Promise.all(
        ids.map((id, i) => store.put(run(id), { metrics: { heldOut: i }, detail: detail(i) })),
      );
      store.close();
      const read = await ResultStore.open(folder);
      expect(new Set(read.runs().map(({ id }) => id)).size).toBe(20 * (round + 1));
      read.close();
    }
  });

  it('of another version are refused in one sentence, and so is what is no such file', async () => {
    const store = await open();
    await store.set('name', 'which-rank');
    store.close();
    await edit((database) => database.exec('PRAGMA user_version = 7'));
    await expect(open()).rejects.toThrow(
      `${folder}/results.sqlite holds results of version 7, and this program reads version 1: choose another output`,
    );
    await rm(join(folder, RESULTS_FILE));
    await edit((database) => database.exec('CREATE TABLE mine (x)'));
    await expect(open()).rejects.toThrow('results.sqlite is not the results of a lab');
    await writeFile(join(folder, RESULTS_FILE), 'hello, this is text and no database'.repeat(40));
    await expect(open()).rejects.toThrow('it is not a SQLite file, or a broken one');
    await rm(join(folder, RESULTS_FILE));
    await expect(ResultStore.open(folder)).rejects.toThrow('holds no results of a lab');
  });

  it('stay as they were where the disk does not take them', async () => {
    const store = await open();
    await store.put(run('a'), { metrics: { heldOut: 1 } });
    const before = await readFile(join(folder, RESULTS_FILE));
    // A folder of the file's name is not replaced: the write fails at its last step.
    await rm(join(folder, RESULTS_FILE));
    await mkdir(join(folder, RESULTS_FILE, 'in the way'), { recursive: true });
    await expect(store.put(run('b'), { metrics: { heldOut: 2 } })).rejects.toThrow(
      /cannot write .*results\.sqlite/,
    );
    expect(store.runs().map(({ id }) => id)).toEqual(['a']);
    await rm(join(folder, RESULTS_FILE), { recursive: true });
    await writeFile(join(folder, RESULTS_FILE), before);
    await store.put(run('c'), { metrics: { heldOut: 3 } });
    store.close();
    const read = await ResultStore.open(folder);
    expect(read.runs().map(({ id }) => id)).toEqual(['a', 'c']);
    read.close();
  });
});
