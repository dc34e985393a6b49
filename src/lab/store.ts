/** Results of a lab, in a SQLite file that any tool reads. */
import { join } from 'node:path';
import initSqlJs, { type Database } from 'sql.js';
import * as z from 'zod';
import { messageOf, UserError } from '../base/errors.js';
import { exists, readBytes } from '../formats/io/node.js';
import { writeFileAtomic } from '../formats/io/write.js';
import type { PlannedRun, RunResult } from './run.js';

export const RESULTS_FILE = 'results.sqlite';
/** Of the tables below. Another one is refused. */
const VERSION = 1;
/** "LoRA" in ASCII, by which SQLite's files say whose they are. */
const APPLICATION = 0x4c6f5241;

const SCHEMA = `
  CREATE TABLE lab (name TEXT PRIMARY KEY, value TEXT NOT NULL);
  CREATE TABLE runs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, labels TEXT NOT NULL, options TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('done', 'failed')), error TEXT, detail TEXT, finished TEXT NOT NULL
  );
  CREATE TABLE metrics (
    run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, name TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (run, name)
  );
  PRAGMA application_id = ${APPLICATION};
  PRAGMA user_version = ${VERSION};
`;

/** A run that ended, as it is kept. */
export type StoredRun = Pick<PlannedRun, 'id' | 'name' | 'kind' | 'labels' | 'options'> & {
  finished: string;
} & (({ status: 'done' } & RunResult) | { status: 'failed'; error: string });

const rowSchema = z.object({
  id: z.string(),
  name: z.string(),
  kind: z.string(),
  labels: z.string().transform((text) => z.record(z.string(), z.string()).parse(JSON.parse(text))),
  options: z.string().transform((text) => z.record(z.string(), z.unknown()).parse(JSON.parse(text))),
  status: z.enum(['done', 'failed']),
  error: z.string().nullable(),
  detail: z
    .string()
    .nullable()
    .transform((text): unknown => (text === null ? undefined : JSON.parse(text))),
  finished: z.string(),
});
const metricSchema = z.object({ run: z.string(), name: z.string(), value: z.number() });

/**
 * The results of one lab: in memory, and after each change written whole under a temporary name and renamed. So a kill or a
 * full disk leaves what was there before, and who reads the file meanwhile finds it whole. One process at a time writes.
 */
export class ResultStore {
  private constructor(
    private readonly path: string,
    private readonly sql: Awaited<ReturnType<typeof initSqlJs>>,
    private database: Database,
    /** The file as it is on disk; undefined before the first change. */
    private saved: Uint8Array | undefined,
  ) {}

  private writing: Promise<void> = Promise.resolve();

  /**
   * Opens the results in a lab's folder; with `create` an empty store where there is none. Throws UserError where there is
   * none, or it is not one of this version.
   */
  static async open(folder: string, { create = false } = {}): Promise<ResultStore> {
    const path = join(folder, RESULTS_FILE);
    const isThere = await exists(path);
    if (!isThere && !create) throw new UserError(`${folder} holds no results of a lab (no ${RESULTS_FILE})`);
    const saved = isThere ? await readBytes(path) : undefined;
    const sql = await initSqlJs();
    const store = new ResultStore(path, sql, new sql.Database(saved), saved);
    try {
      if (isThere) store.check();
      else store.database.exec(SCHEMA);
    } catch (error) {
      store.close();
      throw error;
    }
    return store;
  }

  /** Throws UserError where the file is not a lab's, or of another version. */
  private check(): void {
    const [application, version] = ['application_id', 'user_version'].map((name) => {
      const [row] = this.rows(`PRAGMA ${name}`);
      return Number(Object.values(row)[0]);
    });
    if (application !== APPLICATION) throw new UserError(`${this.path} is not the results of a lab`);
    if (version === VERSION) return;
    throw new UserError(
      `${this.path} holds results of version ${version}, and this program reads version ${VERSION}: choose another output`,
    );
  }

  /** What is kept of the lab itself; undefined where it is not there yet. */
  get(name: string): string | undefined {
    const [row] = this.rows('SELECT value FROM lab WHERE name = ?', [name]);
    return row && String(row.value);
  }

  set(name: string, value: string): Promise<void> {
    return this.change(() => this.database.run('INSERT OR REPLACE INTO lab VALUES (?, ?)', [name, value]));
  }

  /** All runs that ended, in the order in which they did. */
  runs(): StoredRun[] {
    const metrics = new Map<string, Record<string, number>>();
    for (const row of this.rows('SELECT * FROM metrics ORDER BY rowid')) {
      const { run, name, value } = metricSchema.parse(row);
      metrics.set(run, { ...metrics.get(run), [name]: value });
    }
    return this.rows('SELECT * FROM runs ORDER BY rowid').map((row): StoredRun => {
      const { status, error, detail, ...run } = rowSchema.parse(row);
      if (status === 'failed') return { ...run, status, error: error ?? '' };
      return { ...run, status, metrics: metrics.get(run.id) ?? {}, detail };
    });
  }

  /** Keeps how a run ended, whole or not at all. Throws UserError where the disk takes no more. */
  put(run: PlannedRun, ended: RunResult | { error: string }): Promise<void> {
    const failed = 'error' in ended;
    const { id, name, kind, labels, options } = run;
    const detail = failed || ended.detail === undefined ? null : JSON.stringify(ended.detail);
    return this.change(() => {
      this.database.run('DELETE FROM metrics WHERE run = ?', [id]);
      this.database.run('INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)', [
        ...[id, name, kind, JSON.stringify(labels), JSON.stringify(options)],
        ...[failed ? 'failed' : 'done', failed ? ended.error : null, detail, new Date().toISOString()],
      ]);
      for (const [metric, value] of Object.entries(failed ? {} : ended.metrics))
        this.database.run('INSERT INTO metrics VALUES (?, ?, ?)', [id, metric, value]);
    });
  }

  close(): void {
    this.database.close();
  }

  /** Changes are written one after the other: of two writes at once, the earlier one may end last. */
  private change(work: () => unknown): Promise<void> {
    const changed = this.writing.then(() => this.changeNow(work));
    this.writing = changed.catch(() => {});
    return changed;
  }

  private async changeNow(work: () => unknown): Promise<void> {
    work();
    try {
      const bytes = this.database.export();
      await writeFileAtomic(this.path, bytes);
      this.saved = bytes;
    } catch (error) {
      // In memory there is no more than on the disk.
      this.database.close();
      this.database = new this.sql.Database(this.saved);
      if (!this.saved) this.database.exec(SCHEMA);
      throw error;
    }
  }

  private rows(query: string, values: string[] = []): Record<string, unknown>[] {
    try {
      const statement = this.database.prepare(query, values);
      const rows: Record<string, unknown>[] = [];
      while (statement.step()) rows.push(statement.getAsObject());
      statement.free();
      return rows;
    } catch (error) {
      throw new UserError(`cannot read ${this.path}: ${reasonOf(messageOf(error))}`);
    }
  }
}

function reasonOf(said: string): string {
  return /not a database|malformed/.test(said) ? 'it is not a SQLite file, or a broken one' : said;
}
