import type { WorkProgress } from '../base/work.js';
import { LogPace } from './progress.js';
import type { Terminal } from './terminal.js';
import { count, duration } from './text.js';

/** What is over sooner is not shown on the live line. */
const LIVE_MS = 300;
/** The least time between two lines of a log. */
const LOG_MS = 5000;

/** Shows work before training, as a live line or as lines of a log. */
export function showsWork(terminal: Terminal): (progress: WorkProgress) => void {
  let shown: { what: string; since: number; pace: LogPace } | undefined;
  return (progress) => {
    const { what, done, total } = progress;
    if (shown?.what !== what) shown = { what, since: Date.now(), pace: new LogPace(LOG_MS) };
    const passed = Date.now() - shown.since;
    if (done === total) {
      terminal.clear();
      shown = undefined;
    } else if (terminal.isLive) {
      if (passed >= LIVE_MS) terminal.status(workLine(progress, passed / 1000));
    } else if (shown.pace.due({ step: done, steps: total })) {
      terminal.say(workLine(progress, passed / 1000));
    }
  };
}

/** The line for work that began so many seconds ago. */
export function workLine({ what, done, total, unit }: WorkProgress, seconds: number): string {
  const left = done > 0 ? `, ${duration((seconds * (total - done)) / done)} left` : '';
  return `${what}: ${count(done)} of ${count(total)} ${unit}${left}`;
}
