/** A lab's folder: results, runs, and who works in it. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import { describeHolder, Lock } from '../formats/io/lock.js';
import { exists } from '../formats/io/node.js';
import { contentOf, sweep } from '../formats/io/staging.js';
import { makeFolder, prepareOutput } from '../formats/io/write.js';
import type { Grid } from './grid.js';
import type { PlannedRun } from './run.js';
import { RESULTS_FILE, ResultStore, type StoredRun } from './store.js';

/** What is kept of a lab beside its runs, to make its tables again. */
export type LabRecord = Pick<Grid, 'name' | 'title' | 'reproduces' | 'note' | 'kind' | 'axes' | 'tables'> & {
  /** What was typed, and when this was written. */
  command: string;
  runs: PlannedRun[];
};

const RECORD = 'lab';
/** What a process that writes into a lab holds. */
const LOCK = 'lab';

/** A lab's folder in the hands of this process. */
export class Lab {
  private constructor(
    readonly folder: string,
    readonly store: ResultStore,
    private readonly lock: Lock,
  ) {}

  /**
   * Takes the folder of a lab, a new one or one to go on with. Throws UserError where another process is at work in it, it
   * holds something else, or another grid's lab. Give it back by `release`.
   */
  static async claim(folder: string, record: LabRecord): Promise<Lab> {
    await prepareOutput(folder);
    if (await exists(folder)) await refuseOther(folder);
    await makeFolder(folder);
    const lock = await Lock.take(folder, LOCK);
    if (!(lock instanceof Lock))
      throw new UserError(`${folder} is in use: ${describeHolder(lock)} runs a lab in it`);
    try {
      await sweep(folder);
      // A run that had ended when its process was killed is not begun again, which would sweep its folder.
      const runs = join(folder, 'runs');
      const entries = (await exists(runs)) ? await readdir(runs, { withFileTypes: true }) : [];
      for (const entry of entries) if (entry.isDirectory()) await sweep(join(runs, entry.name));
      const store = await ResultStore.open(folder, { create: true });
      const known = recordIn(store);
      if (known && known.name !== record.name) {
        store.close();
        throw new UserError(
          `${folder} holds the lab ${known.name}, not ${record.name}; choose another output`,
        );
      }
      await store.set(RECORD, JSON.stringify(record));
      return new Lab(folder, store, lock);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  async release(): Promise<void> {
    this.store.close();
    await this.lock.release();
  }
}

/** What a lab's folder says of it, and the runs that ended; for who only reads. Throws UserError where it is none. */
export async function readLab(folder: string): Promise<{ record: LabRecord; store: ResultStore }> {
  const store = await ResultStore.open(folder);
  const record = recordIn(store);
  if (record) return { record, store };
  store.close();
  throw new UserError(`${folder} holds no results of a lab (no ${RESULTS_FILE})`);
}

/** The runs that ended in a lab's folder; none where there is no lab yet. Throws UserError where its results cannot be read. */
export async function endedRuns(folder: string): Promise<StoredRun[]> {
  if (!(await exists(join(folder, RESULTS_FILE)))) return [];
  const store = await ResultStore.open(folder);
  const runs = store.runs();
  store.close();
  return runs;
}

function recordIn(store: ResultStore): LabRecord | undefined {
  const text = store.get(RECORD);
  return text === undefined ? undefined : (JSON.parse(text) as LabRecord);
}

async function refuseOther(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => {
    throw new UserError(`${folder} is a file, not a folder`);
  });
  if (contentOf(names).length > 0 && !names.includes(RESULTS_FILE))
    throw new UserError(`${folder} holds other files already; choose another output`);
}
