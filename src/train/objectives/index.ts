import type { BaseModel } from '../../models/base.js';
import type { Objective } from '../objective.js';
import { causalLm } from './causalLm.js';
import { embedding } from './embedding.js';
import type { Pooling } from './pooling.js';
import { regression, sequenceClassification } from './rowTask.js';
import { tokenClassification } from './tokenTask.js';

/** What a model is trained for and evaluated by, where nothing else is asked: its task, or the next token. */
export function objectiveOf({ network, config: { task } }: Pick<BaseModel, 'network' | 'config'>): Objective {
  if (task?.kind === 'embedding') return embedding(task);
  if (!task || !network.head) return causalLm;
  if (task.kind === 'token-classification') return tokenClassification(task.labels);
  const pooling = network.head.reads as Pooling;
  if (task.kind === 'sequence-classification') return sequenceClassification(task.labels, pooling);
  return regression(pooling);
}
