/** The file beside an adapter that says its task with the labels, which PEFT leaves to the base's config.json. */
import { join } from 'node:path';
import { exists, readJson } from './io/node.js';
import { writeFileAtomic } from './io/write.js';
import { type Task, taskSchema } from './task.js';

export const TASK_FILE = 'lowrank_task.json';

/** The task of an adapter's folder; undefined where no file says one. Throws UserError where it is broken. */
export async function readTask(folder: string): Promise<Task | undefined> {
  const path = join(folder, TASK_FILE);
  return (await exists(path)) ? readJson(path, taskSchema) : undefined;
}

export function writeTask(folder: string, task: Task): Promise<void> {
  return writeFileAtomic(join(folder, TASK_FILE), `${JSON.stringify(task, null, 1)}\n`);
}
