import type { TrainEvent } from '../train/loop.js';

export { METRIC_NAMES, METRICS, type Metrics, metricsIn } from '../train/objective.js';

/** An event that metrics.jsonl keeps. */
export type Metric = Extract<TrainEvent, { kind: 'step' | 'eval' }>;
