/** What the parts of a lab tell each other of a run. */

/** A value of an axis: what people call it, and the options that it stands for. */
export interface Setting {
  label: string;
  options: Readonly<Record<string, unknown>>;
}

/** A run as a grid asks for it. */
export interface PlannedRun {
  /** The hash of all that its result depends on: options with their defaults, contents of model and data. */
  id: string;
  /** "r=8, seed=0". */
  name: string;
  kind: string;
  /** The label of its value on each axis. */
  labels: Readonly<Record<string, string>>;
  options: Readonly<Record<string, unknown>>;
  /** Ids of the runs that have to be done before. */
  needs: readonly string[];
  /** What is known before it runs: parameters that train, steps. */
  facts: Readonly<Record<string, number>>;
}

/** What a run came to. */
export interface RunResult {
  /** Figures by their names in the kind's table. */
  metrics: Readonly<Record<string, number>>;
  /** What else there is to draw or to read, as JSON has it. */
  detail?: unknown;
}

/** How far a run has come. */
export interface RunProgress {
  done: number;
  total: number;
  loss?: number;
}
