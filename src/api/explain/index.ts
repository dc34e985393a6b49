/** The questions about LoRA that people ask, answered with figures that are computed or measured when they are asked. */
import { nearest, UserError } from '../../base/errors.js';
import type { Answer, Topic } from './answer.js';
import { Bench, type ExplainOptions } from './bench.js';
import { family, weights } from './choices.js';
import { cost, exercises, parameters } from './counting.js';
import { latency } from './latency.js';
import { limits, qlora } from './limits.js';
import { amplification, lowRank, rank } from './spectra.js';
import { alpha, zero } from './starts.js';

export type { Answer, AnswerTable } from './answer.js';
export type { ExplainOptions } from './bench.js';

/** In the order of the list. */
const topics: readonly Topic[] = [
  cost,
  parameters,
  lowRank,
  zero,
  alpha,
  weights,
  rank,
  amplification,
  latency,
  limits,
  qlora,
  family,
  exercises,
];

/** The topics that explain takes, and what each answers. */
export const explainTopics: readonly Pick<Topic, 'name' | 'question'>[] = topics.map(
  ({ name, question }) => ({
    name,
    question,
  }),
);

export interface Explanation extends Answer {
  topic: string;
  question: string;
}

/**
 * Answers one of `explainTopics`, by arithmetic or by measuring on adapters that it trains on the model that comes
 * along, which takes some seconds. Throws UserError on a topic that there is not.
 */
export async function explain(topic: string, options: ExplainOptions = {}): Promise<Explanation> {
  const found = topics.find(({ name }) => name === topic);
  if (!found) {
    const names = topics.map(({ name }) => name);
    const guess = nearest(topic, names);
    throw new UserError(
      `there is no topic "${topic}"; ${guess ? `did you mean "${guess}"?` : `there are ${names.join(', ')}`}`,
    );
  }
  const { name, question, compute, measure } = found;
  return { topic: name, question, ...(compute ? compute() : await measured(measure!, options)) };
}

async function measured(
  measure: (bench: Bench) => Promise<Answer>,
  options: ExplainOptions,
): Promise<Answer> {
  const bench = await Bench.open(options);
  try {
    return await measure(bench);
  } finally {
    await bench.close();
  }
}
