import type { LocateOptions } from '../api/locate.js';
import type { DownloadProgress } from '../formats/hub/progress.js';
import type { Terminal } from './terminal.js';
import { bytes, duration } from './text.js';

/** A log has a line each tenth, and each half minute. */
const LOG_LINES = 10;
const LOG_MS = 30_000;

/** Shows what finding a model or adapter may take: notices, and downloads as a live line or as lines of a log. */
export function locating(terminal: Terminal): LocateOptions {
  let loggedAt = Date.now();
  let loggedLines = 0;
  const onDownload = ({ what, bytes: at, totalBytes, bytesPerSecond, secondsLeft }: DownloadProgress) => {
    if (at === totalBytes) {
      loggedLines = 0;
      terminal.note(`fetched ${what}, ${bytes(totalBytes)}`);
      return;
    }
    const share = `${Math.floor((100 * at) / totalBytes)}% of ${bytes(totalBytes)}`;
    const left = Number.isFinite(secondsLeft) ? `, ${duration(secondsLeft)} left` : '';
    const text = `fetching ${what}  ${share}, ${bytes(bytesPerSecond)}/s${left}`;
    if (terminal.isLive) return terminal.status(text);
    const lines = Math.floor((LOG_LINES * at) / totalBytes);
    if (lines === loggedLines && Date.now() - loggedAt < LOG_MS) return;
    loggedLines = lines;
    loggedAt = Date.now();
    terminal.note(text);
  };
  return { onNotice: (text) => terminal.note(text), onDownload };
}
