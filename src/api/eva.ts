import * as z from 'zod';
import type { WorkOptions } from '../base/work.js';
import { checkJson } from '../formats/io/json.js';
import type { EvaPlan } from '../train/eva.js';
import type { Job } from './job.js';
import type { Model } from './model.js';
import { trainOptionsOf } from './ranks.js';

/** Options of `initLoraWeights: eva` beside PEFT's. */
export const evaShape = {
  evaBatches: z
    .int()
    .positive()
    .default(16)
    .describe(
      'with --init-lora-weights eva: the most batches of training rows to look at; fewer once tau is reached',
    ),
};
const evaSchema = z.object(evaShape);

export type EvaInput = z.input<typeof evaSchema>;
export type EvaSettings = z.output<typeof evaSchema>;

export function parseEvaOptions(options: unknown): EvaSettings {
  return checkJson('EVA options', options, evaSchema);
}

/** Looks at the data of a job of `initLoraWeights: eva`, and puts its method on the model. */
export async function startJobEva(model: Model, job: Job, work: WorkOptions): Promise<EvaPlan> {
  const { method, methodOptions, eva, train } = job;
  const plan = await model.planEva(method, methodOptions, { ...trainOptionsOf(job), ...eva, ...work });
  await model.addMethod(method, plan.config, { seed: train.seed, starts: plan.starts });
  return plan;
}
