import type { Job } from '../api/job.js';
import { planJobRanks, startJobEva } from '../api/jobPlans.js';
import type { Model } from '../api/model.js';
import type { WorkOptions } from '../base/work.js';
import type { RankPlan } from '../train/ranks.js';
import type { Terminal } from './terminal.js';
import { count, counted, elapsed, percent } from './text.js';
import { showsWork } from './work.js';

/**
 * Chooses by the data the ranks of a job of `r: auto`, or those and the start of one of EVA, tells why, and puts the method
 * on the model. Returns the job to run. Throws the signal's reason where that ended it.
 */
export async function chooseRanks(
  model: Model,
  job: Job,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Job> {
  const work = { onProgress: showsWork(terminal), signal };
  if (job.eva) return startEva(model, job, terminal, work);
  if (!job.ranks) return job;
  terminal.say(
    `ranks     looking at the gradient of ${job.ranks.rankBatches === 1 ? 'one batch' : `${count(job.ranks.rankBatches)} batches`} ...`,
  );
  const { job: chosen, plan } = await planJobRanks(model, job, work);
  await model.addMethod(chosen.method, chosen.methodOptions, { seed: chosen.train.seed, ...work });
  const { choices, budget, parameters } = plan;
  terminal.emit({ kind: 'ranks', budget, parameters, choices });
  terminal.say(
    `ranks     by the singular values of the loss's gradient, ${count(parameters)} of ${count(budget)} parameters spent:`,
  );
  for (const line of rankLines(plan)) terminal.say(`  ${line}`);
  return chosen;
}

/** The same job: its ranks follow from the data again when it goes on. */
async function startEva(model: Model, job: Job, terminal: Terminal, work: WorkOptions): Promise<Job> {
  const started = performance.now();
  terminal.say(
    `eva       looking at the inputs of layers, of ${count(job.eva!.evaBatches)} batches at most ...`,
  );
  const { choices, parameters, batches, tokens, settled } = await startJobEva(model, job, work);
  terminal.emit({ kind: 'eva', parameters, choices, batches, tokens, settled });
  const seconds = (performance.now() - started) / 1000;
  terminal.say(
    `eva       ${counted(tokens, 'token')} of ${batches} ${batches === 1 ? 'batch' : 'batches'} in ${elapsed(seconds)}` +
      `${settled ? '' : ', not settled yet'}; what ranks explain of the variance of a layer's input:`,
  );
  for (const line of rankLines({ choices })) terminal.say(`  ${line}`);
  return job;
}

/**
 * A line for each kind of layer: its ranks from the first layer to the last ("-": left alone), and which part of what
 * there is to follow they can, of the gradient's singular values, summed, or the input's variance.
 */
export function rankLines({ choices }: Pick<RankPlan, 'choices'>): string[] {
  const kinds = new Map<string, { ranks: string[]; kept: number; all: number }>();
  for (const { site, r, spectrum, whole } of choices) {
    const name = site.slice(site.lastIndexOf('.') + 1);
    const kind = kinds.get(name) ?? { ranks: [], kept: 0, all: 0 };
    kind.ranks.push(r === 0 ? '-' : String(r));
    kind.kept += sum(spectrum.slice(0, r));
    kind.all += whole;
    kinds.set(name, kind);
  }
  const width = Math.max(...[...kinds.keys()].map((name) => name.length));
  return [...kinds].map(
    ([name, { ranks, kept, all }]) =>
      `${name.padEnd(width)}  ${percent(all > 0 ? kept / all : 0).padStart(6)}  ${ranks.join(' ')}`,
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
