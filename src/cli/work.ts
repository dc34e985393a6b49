import type { WorkProgress } from '../base/work.js';
import { barred, LogPace } from './progress.js';
import type { Terminal } from './terminal.js';
import { bytes, count, counted, duration } from './text.js';

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
      if (passed >= LIVE_MS) terminal.status(liveLine(progress, passed / 1000, terminal.columns));
    } else if (shown.pace.due({ step: done, steps: total })) {
      terminal.say(workLines(progress, passed / 1000)[0]);
    }
  };
}

function liveLine(progress: WorkProgress, seconds: number, columns = Number.POSITIVE_INFINITY): string {
  const { done, total } = progress;
  const lines = workLines(progress, seconds);
  return total === Number.POSITIVE_INFINITY
    ? lines[0]
    : barred({ step: done, steps: total }, lines, columns - 1);
}

/** What is told of work that began so many seconds ago, in full and shorter. */
export function workLines({ what, done, total, unit, rows }: WorkProgress, seconds: number) {
  const known = total !== Number.POSITIVE_INFINITY;
  const left = known && done > 0 ? `, ${duration((seconds * (total - done)) / done)} left` : '';
  const amount =
    unit === 'bytes'
      ? `${bytes(done)} of ${bytes(total)}`
      : known
        ? `${count(done)} of ${count(total)} ${unit}`
        : `${count(done)} ${unit}`;
  const read = rows === undefined ? '' : `, ${counted(rows, 'row')}`;
  return [`${what}: ${amount}${read}${left}`, `${what}: ${amount}${left}`, `${amount}${left}`, amount];
}
