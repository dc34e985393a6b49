/** A process that does a lab's runs, one after the other, as its parent asks for them. */
import { messageOf, UserError } from '../base/errors.js';
import { DiskFullError } from '../formats/io/node.js';
import { kindNamed } from './kinds/index.js';
import type { PlannedRun, RunProgress, RunResult } from './run.js';

/** What a worker is asked. */
export type WorkerRequest =
  | {
      kind: 'run';
      run: PlannedRun;
      lab: string;
      folder: string;
      /** Folders of the runs that it needs, by id. */
      needed: Record<string, string>;
      threads?: number;
    }
  | { kind: 'stop' };

/** What it answers: how far it is, and once how the run ended. */
export type WorkerReply =
  | { kind: 'progress'; progress: RunProgress }
  | { kind: 'done'; result: RunResult }
  /** `fatal`: the next run would fail too. */
  | { kind: 'failed'; message: string; fatal: boolean }
  | { kind: 'stopped' };

/** A log of progress needs no more. */
const PROGRESS_MS = 200;

let stop = new AbortController();

async function work({
  run,
  lab,
  folder,
  needed,
  threads,
}: WorkerRequest & { kind: 'run' }): Promise<WorkerReply> {
  stop = new AbortController();
  const { signal } = stop;
  let told = 0;
  const onProgress = (progress: RunProgress) => {
    if (Date.now() - told < PROGRESS_MS) return;
    told = Date.now();
    tell({ kind: 'progress', progress });
  };
  const folderOf = (id: string) => needed[id];
  const started = performance.now();
  try {
    const { metrics, detail } = await kindNamed(run.kind).execute(run, {
      lab,
      folder,
      folderOf,
      threads,
      onProgress,
      signal,
    });
    const seconds = (performance.now() - started) / 1000;
    return { kind: 'done', result: { metrics: { seconds, ...metrics }, detail } };
  } catch (error) {
    if (signal.aborted && error === signal.reason) return { kind: 'stopped' };
    const debug =
      process.env.LOWRANK_DEBUG === '1' && !(error instanceof UserError) && error instanceof Error;
    const message = debug ? String(error.stack) : messageOf(error);
    return { kind: 'failed', message, fatal: error instanceof DiskFullError };
  }
}

function tell(reply: WorkerReply): void {
  process.send?.(reply);
}

process.on('message', (request: WorkerRequest) => {
  if (request.kind === 'stop') stop.abort();
  else void work(request).then(tell);
});
// The parent decides what a Ctrl-C does, which the terminal sends to all of its processes.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
// Without the parent nobody waits for the result, and the next lab may want the run's folder.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
