import { abandon, isAnythingUnderWay } from '../formats/io/staging.js';

/** Ctrl-C, the system's request to end, and a terminal that was closed. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** What the next signal does instead of ending the process. */
let next: (() => void) | undefined;
/** Whether a signal was caught already. */
let caught = false;
let writes = false;

/**
 * From here on a signal ends the process with nothing left of what it had begun. A command that writes exits with 130;
 * others end by the signal, since process.exit would wait for the engine's thread to end its step. Returns what gives
 * the signals back.
 */
export function endOnInterrupt(commandWrites: boolean): () => void {
  writes = commandWrites;
  for (const signal of SIGNALS) process.on(signal, handle);
  return giveBack;
}

/**
 * From here on a reader of stdout or stderr who leaves early (`| head`) ends the command as the first Ctrl-C does: what
 * can be saved is saved, and the exit code is 130.
 */
export function endOnClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', handleStreamError);
}

function handleStreamError(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
  // Each further line fails in the same way.
  if (caught) return;
  caught = true;
  const first = next;
  next = undefined;
  if (first) first();
  else process.exit(130);
}

function giveBack(): void {
  for (const signal of SIGNALS) process.off(signal, handle);
}

/** Turns the first signal into `first`; the second ends the process. Returns what undoes it. */
export function onInterrupt(first: () => void): () => void {
  next = first;
  return () => {
    if (next === first) next = undefined;
  };
}

function handle(signal: NodeJS.Signals): void {
  const first = next;
  next = undefined;
  if (first) {
    caught = true;
    first();
    return;
  }
  if (!caught && (writes || isAnythingUnderWay())) process.exit(130);
  abandon();
  giveBack();
  process.kill(process.pid, signal);
}
