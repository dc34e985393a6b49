/** The queue of a lab: runs over worker processes, results into its store. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import type { PlannedRun, RunProgress, RunResult } from './run.js';
import type { ResultStore } from './store.js';
import { WorkerProcess } from './workerProcess.js';

/** What a lab tells as it goes. */
export type LabEvent =
  | { kind: 'start'; run: PlannedRun }
  | { kind: 'progress'; run: PlannedRun; progress: RunProgress }
  | { kind: 'done'; run: PlannedRun; result: RunResult; seconds: number }
  | { kind: 'failed'; run: PlannedRun; message: string }
  /** A worker died of it, and it is tried once more. */
  | { kind: 'again'; run: PlannedRun; why: string };

export interface LabRunOptions {
  workers: number;
  onEvent: (event: LabEvent) => void;
  /** Ends the runs under way with a checkpoint each. */
  signal: AbortSignal;
}

/** What became of a lab's runs. */
export interface LabEnd {
  done: number;
  failed: number;
  /** Runs that were not begun or not ended, since the signal aborted. */
  left: number;
}

/** A run is tried so often where its worker dies. */
const TRIES = 2;

/** Does the runs that the store does not have yet, each in a folder of its own under `folder`. */
export async function runLab(
  folder: string,
  runs: readonly PlannedRun[],
  store: ResultStore,
  options: LabRunOptions,
): Promise<LabEnd> {
  return new LabQueue(folder, runs, store, options).work();
}

/** Where a run of a lab is. */
export function runFolder(lab: string, { id, name }: Pick<PlannedRun, 'id' | 'name'>): string {
  const readable = name.replace(/[^\w.=-]+/g, '_').slice(0, 60);
  return join(lab, 'runs', `${readable}-${id}`);
}

class LabQueue {
  private readonly byId: Map<string, PlannedRun>;
  private readonly done: Set<string>;
  private readonly failed = new Set<string>();
  private readonly pending: PlannedRun[];
  private readonly workers: WorkerProcess[] = [];
  private readonly stopping = new AbortController();
  private readonly threads: number | undefined;
  /** Called whenever a run has ended, by those that wait for one. */
  private waiting: (() => void)[] = [];

  constructor(
    private readonly folder: string,
    runs: readonly PlannedRun[],
    private readonly store: ResultStore,
    private readonly options: LabRunOptions,
  ) {
    this.byId = new Map(runs.map((run) => [run.id, run]));
    this.done = new Set(store.runs().flatMap(({ id, status }) => (status === 'done' ? [id] : [])));
    this.pending = runs.filter(({ id }) => !this.done.has(id));
    const { workers } = options;
    this.threads = workers > 1 ? Math.max(1, Math.floor(availableParallelism() / workers)) : undefined;
  }

  async work(): Promise<LabEnd> {
    const { signal } = this.options;
    const all = this.pending.length;
    const before = this.done.size;
    const stop = () => {
      this.stopping.abort();
      for (const worker of this.workers) worker.stop();
      this.wake();
    };
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop);
    try {
      const lanes = Array.from({ length: Math.min(this.options.workers, all) }, () => this.lane());
      const ends = await Promise.allSettled(
        lanes.map((lane) =>
          lane.catch((error: unknown) => {
            stop();
            throw error;
          }),
        ),
      );
      const broken = ends.find((end) => end.status === 'rejected');
      if (broken) throw broken.reason;
    } finally {
      signal.removeEventListener('abort', stop);
      await Promise.all(this.workers.map((worker) => worker.close()));
    }
    const done = this.done.size - before;
    return { done, failed: this.failed.size, left: all - done - this.failed.size };
  }

  /** One worker's part of the queue. */
  private async lane(): Promise<void> {
    const worker = new WorkerProcess();
    this.workers.push(worker);
    while (!this.stopping.signal.aborted && this.pending.length > 0) {
      const next = this.pending.findIndex(({ needs }) => needs.every((id) => this.hasEnded(id)));
      if (next < 0) {
        await new Promise<void>((resolve) => this.waiting.push(resolve));
        continue;
      }
      const [run] = this.pending.splice(next, 1);
      await this.one(worker, run);
      this.wake();
    }
  }

  private wake(): void {
    for (const go of this.waiting.splice(0)) go();
  }

  private hasEnded(id: string): boolean {
    return this.done.has(id) || this.failed.has(id);
  }

  private async one(worker: WorkerProcess, run: PlannedRun): Promise<void> {
    const { onEvent } = this.options;
    const missing = run.needs.find((id) => this.failed.has(id));
    if (missing) return this.fail(run, `it needs the run "${this.byId.get(missing)!.name}", which failed`);
    const started = performance.now();
    const folder = runFolder(this.folder, run);
    const needed = Object.fromEntries(
      run.needs.map((id) => [id, runFolder(this.folder, this.byId.get(id)!)]),
    );
    const { threads } = this;
    onEvent({ kind: 'start', run });
    for (let tries = 1; ; tries++) {
      const end = await worker.run(
        { kind: 'run', run, lab: this.folder, folder, needed, threads },
        (progress) => onEvent({ kind: 'progress', run, progress }),
      );
      if (end.kind === 'stopped') return;
      if (end.kind === 'done') {
        await this.store.put(run, end.result);
        this.done.add(run.id);
        onEvent({ kind: 'done', run, result: end.result, seconds: (performance.now() - started) / 1000 });
        return;
      }
      if (end.kind === 'failed') {
        if (end.fatal) throw new UserError(`${end.message}; the runs that are done are kept`);
        return this.fail(run, end.message);
      }
      if (this.stopping.signal.aborted) return;
      const why = `its process died (${end.how}${end.said ? `: ${end.said}` : ''})`;
      if (tries === TRIES) return this.fail(run, `${why}, twice`);
      onEvent({ kind: 'again', run, why });
    }
  }

  private async fail(run: PlannedRun, message: string): Promise<void> {
    await this.store.put(run, { error: message });
    this.failed.add(run.id);
    this.options.onEvent({ kind: 'failed', run, message });
  }
}
