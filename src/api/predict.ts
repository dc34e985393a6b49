/** What a model with a task's head tells of rows. */

import { UserError } from '../base/errors.js';
import { refuseNewHead } from '../methods/head.js';
import type { Active } from '../serve/decode.js';
import type { Content } from '../train/data/form.js';
import type { Row } from '../train/data/row.js';
import type { Answer, Objective } from '../train/objective.js';
import { objectiveOf } from '../train/objectives/index.js';
import { LossStep } from '../train/step.js';
import { checkArguments } from './arguments.js';
import { type DataSource, rowsOfSource } from './data.js';
import { type Engine, exampleLimit } from './training.js';

/** A row, and what the model tells of it. */
export type Prediction = Answer & {
  /** Of its file, from 1, as errors count them. */
  line: number;
  /** The row as it was read: a text, a pair, words; its label, where it has one. */
  row: Readonly<Record<string, unknown>>;
};

export interface PredictOptions {
  /** Longest input in tokens, longer ones are cut. Default: 1024 or the model's limit. */
  maxLength?: number;
  signal?: AbortSignal;
}

/** Rows that are looked at together, and the positions that the engine runs at once. */
const CHUNK_ROWS = 64;
const CHUNK_TOKENS = 4096;

/** See Model.predict. */
export async function* predictOn(
  engine: Engine,
  snapshot: Promise<Active>,
  data: DataSource,
  options: PredictOptions,
): AsyncGenerator<Prediction, void, void> {
  checkArguments('predict', [data, options]);
  const { runtime, session, tokenizer } = engine;
  const { base, adapter, merged } = await snapshot;
  const objective = objectiveOf(base);
  const { answers } = objective;
  if (!answers)
    throw new UserError('the model predicts the next token: generate with it, or open it for a task');
  refuseNewHead(base, adapter);
  const maxLength = exampleLimit(base, adapter, options.maxLength);
  const rows: Row<Content>[] = [];
  const read = async function* () {
    for await (const row of rowsOfSource(data, answers.reading.forms)) {
      rows.push(row);
      yield row;
    }
  };
  const step = await LossStep.create(runtime, base, adapter, { ...session, objective, logits: true, merged });
  try {
    let chunk: { example: unknown; row: Row<Content> }[] = [];
    const examples = answers.reading.encode(read(), tokenizer.tokenizer, { maxLength });
    for (;;) {
      const next = await examples.next();
      if (!next.done) {
        // Rows that give no example are passed over.
        const row = rows.at(-1)!;
        rows.length = 0;
        chunk.push({ example: next.value, row });
      }
      if (chunk.length === CHUNK_ROWS || (next.done && chunk.length > 0)) {
        options.signal?.throwIfAborted();
        const found = await answersOf(
          step,
          objective,
          chunk.map(({ example }) => example),
        );
        for (const [i, answer] of found.entries()) {
          const { line, source: _, kind: __, ...row } = chunk[i].row;
          yield { line, row, ...answer };
        }
        chunk = [];
      }
      if (next.done) return;
    }
  } finally {
    await step.close();
  }
}

/** The answers for some examples, in their order: those of like length are run together. */
async function answersOf<E>(
  step: LossStep,
  objective: Objective<E>,
  examples: readonly E[],
): Promise<Answer[]> {
  const { batching, answers } = objective;
  const lengthOf = (i: number) => batching.lengthOf(examples[i]);
  const order = examples.map((_, i) => i).sort((a, b) => lengthOf(b) - lengthOf(a));
  const found: Answer[] = [];
  for (let start = 0; start < order.length; ) {
    const together = Math.max(1, Math.floor(CHUNK_TOKENS / (lengthOf(order[start]) * batching.rows)));
    const run = order.slice(start, start + together);
    const own = run.map((i) => examples[i]);
    const { logits } = await step.run(batching.assembled(own.map((example) => [example])));
    for (const [i, answer] of answers!.of(own, logits!).entries()) found[run[i]] = answer;
    start += run.length;
  }
  return found;
}
