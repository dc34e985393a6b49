import { UserError } from '../base/errors.js';
import { sameTask, type Task } from '../formats/task.js';
import type { BaseModel } from './base.js';
import { constantStart } from './fresh.js';
import { describe } from './shape.js';
import { settlePooler } from './weights.js';

/**
 * The model with a head for a task. What its checkpoint lacks of that is `fresh`. Throws UserError where it has no such
 * head, or one of another size: a head that was made for other labels.
 */
export function forTask(model: BaseModel, task: Task): BaseModel {
  if (sameTask(model.config.task, task)) return model;
  const described = describe(settlePooler({ ...model.config, task }, model.network, model.checkpoint));
  const { folder, tensors, read } = model.checkpoint;
  const { head, parameters } = described;
  const fresh = new Set([...head].filter((name) => !tensors.has(name)));
  for (const name of head) {
    const found = tensors.get(name);
    if (!found || String(found.shape) === String(parameters.get(name))) continue;
    throw new UserError(
      `${folder}: its head has ${name} of shape [${found.shape}], and ${task.kind} with these labels needs ` +
        `[${parameters.get(name)}]: name the labels that it was trained with, or take a model without a head`,
    );
  }
  const checkpoint = {
    folder,
    tensors,
    read: async (name: string) => (fresh.has(name) ? constantStart(name, parameters.get(name)!) : read(name)),
  };
  return {
    ...model,
    ...described,
    trained: [...new Set([...described.trained, ...fresh])],
    fresh,
    checkpoint,
  };
}
