import type * as z from 'zod';
import type { PlannedRun, RunProgress, RunResult } from '../run.js';
import type { Sources } from '../sources.js';

/** A figure of a run's result. */
export interface MetricCard {
  /** What a table calls it. */
  title: string;
  /** Digits behind the point; absent: a whole number with commas. */
  digits?: number;
}

/** How long a run took: of every kind, measured where it has no such figure of its own. */
export const seconds: MetricCard = { title: 'seconds', digits: 1 };

/** What a run of some options would be. */
export interface ResolvedRun {
  /** All that its result depends on, as JSON has it: equal texts are the same run. */
  identity: unknown;
  facts: Record<string, number>;
}

/** What a run is given where it runs. */
export interface RunPlace {
  /** The lab's folder. */
  lab: string;
  /** The run's own folder in it. */
  folder: string;
  /** Folder of a run that it needs, by id: `needs` of the run has them in the order of the kind's `needs`. */
  folderOf(id: string): string;
  /** Threads, where the options say nothing. */
  threads: number | undefined;
  onProgress(progress: RunProgress): void;
  /** Ends it with what it can save; then it throws the signal's reason. */
  signal: AbortSignal;
}

/** A kind of experiment. One file a kind, one entry in the table: grids, tables and workers know kinds only through this. */
export interface RunKind {
  /** What a grid may say of such a run, each option by itself; nothing is required. */
  readonly options: z.ZodObject;
  readonly metrics: Readonly<Record<string, MetricCard>>;
  /** Checks options as a whole. Throws UserError where they do not go together, or do not fit model and data. */
  resolve(options: Readonly<Record<string, unknown>>, sources: Sources): Promise<ResolvedRun>;
  /** Options of the runs of training that have to be done before; absent: none. */
  needs?(options: Readonly<Record<string, unknown>>): (Readonly<Record<string, unknown>> | undefined)[];
  /**
   * Forecast of the most bytes that it takes in memory; undefined where that is not known before. Absent: it has none. `options`
   * were checked by `resolve`.
   */
  memory?(options: Readonly<Record<string, unknown>>, sources: Sources): Promise<number | undefined>;
  /** Runs it to its end, from where it was stopped. Throws UserError where it cannot. */
  execute(run: PlannedRun, place: RunPlace): Promise<RunResult>;
}
