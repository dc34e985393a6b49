import type { Job } from '../api/job.js';
import type { Model } from '../api/model.js';
import { planJobRanks } from '../api/ranks.js';
import type { RankPlan } from '../train/ranks.js';
import type { Terminal } from './terminal.js';
import { count, percent } from './text.js';

/** Chooses the ranks of a job of `r: auto`, tells why, and puts the method on the model with them. */
export async function chooseRanks(model: Model, job: Job, terminal: Terminal): Promise<Job> {
  if (!job.ranks) return job;
  terminal.say(`ranks     looking at the gradient of ${job.ranks.rankBatches} batches ...`);
  const { job: chosen, plan } = await planJobRanks(model, job);
  await model.addMethod(chosen.method, chosen.methodOptions, { seed: chosen.train.seed });
  const { choices, budget, parameters } = plan;
  terminal.emit({ kind: 'ranks', budget, parameters, choices });
  terminal.say(
    `ranks     by the singular values of the loss's gradient, ${count(parameters)} of ${count(budget)} parameters spent:`,
  );
  for (const line of rankLines(plan)) terminal.say(`  ${line}`);
  return chosen;
}

/**
 * A line for each kind of layer: its ranks from the first layer to the last ("-": left alone), and which part of the
 * gradient's singular values, summed, they can follow.
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
