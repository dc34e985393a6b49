/** Work that takes a while: what it tells on its way, and how it is ended. */

/** How far it has come: "PiSSA: 34 of 210 matrices", "reading rows.jsonl: 3 of 12 MB, 1,234 rows". */
export interface WorkProgress {
  /** What is at work. */
  what: string;
  done: number;
  /** Infinity where nobody knows. */
  total: number;
  /** What is counted, in the plural. */
  unit: string;
  /** Of a file of which bytes are counted: its rows so far. */
  rows?: number;
}

export interface WorkOptions {
  onProgress?: (progress: WorkProgress) => void;
  /** Ends it: what was asked for throws the signal's reason. */
  signal?: AbortSignal;
}

/** The event loop gets a turn this often. */
const TURN_MS = 50;

/** Lets work that computes on the main thread give way to timers and signals. */
export class Turns {
  private taken = Date.now();

  constructor(private readonly signal?: AbortSignal) {}

  /** Waits for a turn of the event loop where one is due. Throws the signal's reason once it has aborted. */
  async take(): Promise<void> {
    if (Date.now() - this.taken > TURN_MS) {
      await new Promise((resolve) => setTimeout(resolve));
      this.taken = Date.now();
    }
    this.signal?.throwIfAborted();
  }
}
