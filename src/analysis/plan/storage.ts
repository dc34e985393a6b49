/** What many tasks take on a disk: a model of its own for each, or one base and an adapter for each. */
import { UserError } from '../../base/errors.js';
import type { Figure } from './parameters.js';

/** Bytes of N tasks. */
export interface StoragePlan {
  tasks: number;
  /** A whole fine-tuned model a task. */
  full: Figure;
  /** One base and an adapter a task. */
  adapters: Figure;
  /** How many times less the second is. */
  times: number;
}

/** Storage of N tasks, from the bytes of a whole model and of an adapter. Throws UserError where there is no task. */
export function storageOf(modelBytes: number, adapterBytes: number, tasks: number): StoragePlan {
  if (!Number.isSafeInteger(tasks) || tasks < 1) {
    throw new UserError(`the number of tasks is ${tasks}, expected a whole number of at least 1`);
  }
  const full = tasks * modelBytes;
  const shared = modelBytes + tasks * adapterBytes;
  return {
    tasks,
    full: { value: full, formula: 'N · model', numbers: `${tasks}·${modelBytes}` },
    adapters: {
      value: shared,
      formula: 'model + N · adapter',
      numbers: `${modelBytes} + ${tasks}·${adapterBytes}`,
    },
    times: full / shared,
  };
}
