import type { TrainEvent } from '../train/loop.js';

/** An event that metrics.jsonl keeps. */
export type Metric = Extract<TrainEvent, { kind: 'step' | 'eval' }>;
