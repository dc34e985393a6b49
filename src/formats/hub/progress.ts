/** How far a download is. */

export interface DownloadProgress {
  /** The repository, or what of it is fetched, as a person would write it. */
  what: string;
  /** Of all files together, with what was there before. */
  bytes: number;
  totalBytes: number;
  /** Over the last ten seconds; 0 until it is known. */
  bytesPerSecond: number;
  secondsLeft: number;
}

const WINDOW_MS = 10_000;

/** Adds up the files of a download and tells of it. */
export class DownloadMeter {
  private readonly byFile = new Map<string, number>();
  private readonly seen: { at: number; bytes: number }[] = [];

  constructor(
    private readonly what: string,
    private readonly totalBytes: number,
    private readonly tell: (progress: DownloadProgress) => void,
  ) {}

  /** Bytes of a file that need not be fetched. */
  begin(name: string, bytes: number): void {
    this.byFile.set(name, bytes);
  }

  /** The bytes of a file that are there now. */
  at(name: string, bytes: number): void {
    this.byFile.set(name, bytes);
    const sum = [...this.byFile.values()].reduce((a, b) => a + b, 0);
    const now = Date.now();
    this.seen.push({ at: now, bytes: sum });
    while (now - this.seen[0].at > WINDOW_MS) this.seen.shift();
    const [first] = this.seen;
    const bytesPerSecond = now > first.at ? Math.max(0, (1000 * (sum - first.bytes)) / (now - first.at)) : 0;
    const secondsLeft =
      bytesPerSecond > 0 ? (this.totalBytes - sum) / bytesPerSecond : Number.POSITIVE_INFINITY;
    this.tell({ what: this.what, bytes: sum, totalBytes: this.totalBytes, bytesPerSecond, secondsLeft });
  }
}
