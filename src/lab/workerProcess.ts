import { type ChildProcess, fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { RunProgress } from './run.js';
import type { WorkerReply, WorkerRequest } from './worker.js';

/** How a run ended in a worker; "died" is the worker itself. */
export type RunEnd = Exclude<WorkerReply, { kind: 'progress' }> | { kind: 'died'; how: string; said: string };

/** Of what a worker wrote to stderr, the end. */
const MOST_SAID = 2000;

/** A worker as a child process, which is started when it is needed and again where it died. */
export class WorkerProcess {
  private child: ChildProcess | undefined;

  /** Process number, where one runs. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Does one run. Resolves however it ends. */
  run(
    request: WorkerRequest & { kind: 'run' },
    onProgress: (progress: RunProgress) => void,
  ): Promise<RunEnd> {
    this.child ??= fork(workerFile(), [], {
      // The program's own flags are not for it.
      execArgv: [],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const { child } = this;
    let said = '';
    const hear = (text: Buffer) => {
      said = (said + text).slice(-MOST_SAID);
    };
    child.stderr?.on('data', hear);
    return new Promise<RunEnd>((resolve) => {
      const end = (how: RunEnd) => {
        child.off('message', answer).off('close', died).off('error', failed);
        child.stderr?.off('data', hear);
        resolve(how);
      };
      const answer = (reply: WorkerReply) => {
        if (reply.kind === 'progress') onProgress(reply.progress);
        else end(reply);
      };
      const died = (code: number | null, signal: NodeJS.Signals | null) => {
        this.child = undefined;
        end({ kind: 'died', how: signal ?? `exit code ${code}`, said: said.trim() });
      };
      const failed = (error: Error) => {
        this.child = undefined;
        end({ kind: 'died', how: error.message, said: '' });
      };
      child.on('message', answer).on('close', died).on('error', failed);
      child.send(request, (error) => error && failed(error));
    });
  }

  /** Has the run under way end with what it can save. */
  stop(): void {
    if (this.child?.connected) this.child.send({ kind: 'stop' } satisfies WorkerRequest);
  }

  /** Ends the process; resolves once it has. */
  async close(): Promise<void> {
    const { child } = this;
    if (!child) return;
    this.child = undefined;
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await closed;
  }
}

/** The compiled worker; under a test runner that loads TypeScript, the one that the build put in dist/. */
function workerFile(): string {
  const here = fileURLToPath(new URL('./worker.js', import.meta.url));
  if (existsSync(here)) return here;
  return fileURLToPath(new URL('../../dist/lab/worker.js', import.meta.url));
}
