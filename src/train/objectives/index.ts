import type { BaseModel } from '../../models/base.js';
import type { Objective } from '../objective.js';
import { causalLm } from './causalLm.js';

/** What a model is trained for and evaluated by, where nothing else is asked. */
export function objectiveOf(_model: Pick<BaseModel, 'network'>): Objective {
  return causalLm;
}
