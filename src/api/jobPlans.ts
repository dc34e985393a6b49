/** What a job looks for in its data before it trains: ranks, or where its method starts. */
import type { WorkOptions } from '../base/work.js';
import type { EvaPlan } from '../train/eva.js';
import type { RankPlan } from '../train/ranks.js';
import { type Job, trainOptionsOf } from './job.js';
import type { Model } from './model.js';

/** A job of `r: auto` with the ranks that its data suggest written out, and how they came about. */
export async function planJobRanks(
  model: Model,
  job: Job,
  work: WorkOptions,
): Promise<{ job: Job; plan: RankPlan }> {
  const { method, methodOptions, ranks } = job;
  const plan = await model.planRanks(method, methodOptions, { ...trainOptionsOf(job), ...ranks, ...work });
  return { job: { ...job, methodOptions: { ...plan.config }, ranks: undefined }, plan };
}

/** Looks at the data of a job of `initLoraWeights: eva`, and puts its method on the model. */
export async function startJobEva(model: Model, job: Job, work: WorkOptions): Promise<EvaPlan> {
  const { method, methodOptions, eva, train } = job;
  const plan = await model.planEva(method, methodOptions, { ...trainOptionsOf(job), ...eva, ...work });
  await model.addMethod(method, plan.config, { seed: train.seed, starts: plan.starts });
  return plan;
}
