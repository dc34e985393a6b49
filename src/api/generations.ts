/** Evaluation by what a model says: it answers rows, and its answers are compared with theirs. */
import { extname } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import type { WorkOptions } from '../base/work.js';
import type { ChatMessage } from '../formats/chat.js';
import { writeFileAtomic } from '../formats/io/write.js';
import type { TokenizerOf } from '../formats/tokenizer.js';
import type { Runtime } from '../graph/runtime/session.js';
import type { Active } from '../serve/decode.js';
import { type FinishReason, generateSchema } from '../serve/generate.js';
import { type Asked, askedReading } from '../train/data/asked.js';
import type { Examples } from '../train/data/cache.js';
import type { EncodeStats } from '../train/data/encode.js';
import { rougeL } from '../train/metrics/rouge.js';
import { isExact, type TextScores, textScores } from '../train/metrics/text.js';
import type { Objective } from '../train/objective.js';
import { type DataSource, loadExamples } from './data.js';
import { type Generator, snapshotOf } from './generator.js';
import { claimFile } from './replace.js';

const { maxNewTokens, stop } = generateSchema.shape;

/** How rows are answered. What is not given is as the model's generation_config.json says, but for sampling: there is none. */
export const answeringShape = {
  maxNewTokens,
  stop,
  limit: z.int().positive().optional().describe('answer so many rows, from the first on (default: all)'),
};
export type AnsweringInput = z.input<z.ZodObject<typeof answeringShape>>;

/** An answer beside the one that was wanted, both without blanks at their ends. */
export interface Answer {
  /** Of the row, from 1, and its file where it comes from one. */
  line: number;
  source?: string;
  prompt: string | readonly ChatMessage[];
  reference: string;
  prediction: string;
  exactMatch: boolean;
  rougeL: number;
  /** How long the answer is, and why it ended there. */
  tokens: number;
  reason: FinishReason;
}

/** Scores over all answers. */
export interface Generations extends TextScores, Pick<EncodeStats, 'rows' | 'dropped' | 'unanswered'> {
  /** Answers that ended at the most tokens that were allowed. */
  cut: number;
  answers: Answer[];
}

/** What answers are generated with. */
interface Answering {
  runtime: Runtime;
  generator: Generator;
  tokenizer: TokenizerOf;
}

/**
 * The questions of rows, for a model with room for so many tokens. Throws UserError where rows ask nothing, and for a model that
 * generates nothing.
 */
export async function loadAsked(
  data: DataSource,
  tokenizer: TokenizerOf,
  { name, beginning }: Pick<Objective, 'name' | 'beginning'>,
  room: number,
  { limit }: AnsweringInput,
  work: WorkOptions,
): Promise<Examples<Asked>> {
  if (!beginning) throw new UserError(`generate: a model for ${name} has no text to generate`);
  return loadExamples(data, askedReading(limit), tokenizer, { maxLength: room }, work);
}

/** Answers each question, always with the likeliest token. Throws the signal's reason once that aborts. */
export async function answersTo(
  { examples, stats }: Pick<Examples<Asked>, 'examples' | 'stats'>,
  { runtime, generator, tokenizer }: Answering,
  active: Active,
  { limit: _, ...options }: AnsweringInput,
  { onProgress, signal }: WorkOptions,
): Promise<Generations> {
  const answers: Answer[] = [];
  const tell = () =>
    onProgress?.({ what: 'answering', done: answers.length, total: examples.length, unit: 'rows' });
  tell();
  for (const { prompt, ids, reference, line, source } of examples) {
    signal?.throwIfAborted();
    const greedy = { ...options, doSample: false };
    const pieces = generator.stream(snapshotOf(runtime, active), tokenizer, ids, greedy, { signal });
    let said = '';
    let next = await pieces.next();
    for (; !next.done; next = await pieces.next()) said += next.value;
    signal?.throwIfAborted();
    const { tokens, reason } = next.value;
    const pair = { reference: reference.trim(), prediction: said.trim() };
    answers.push({
      line,
      ...(source !== undefined && { source }),
      prompt,
      ...pair,
      exactMatch: isExact(pair.prediction, pair.reference),
      rougeL: rougeL(pair.prediction, pair.reference),
      tokens,
      reason,
    });
    tell();
  }
  const scores = textScores(
    answers.map(({ prediction }) => prediction),
    answers.map(({ reference }) => reference),
  );
  const { rows, dropped, unanswered } = stats;
  const cut = answers.filter(({ reason }) => reason === 'length').length;
  return { ...scores, rows, dropped, unanswered, cut, answers };
}

/** What may be done with a file of answers that is there, and the rows that the job reads. */
export interface PredictionsOptions {
  overwrite?: boolean;
  inputs?: readonly string[];
}

/** Throws UserError where no answers may be written to `path`, so that a long job can refuse before its work. */
export async function claimPredictions(path: string, options: PredictionsOptions = {}): Promise<void> {
  if (extname(path).toLowerCase() !== '.jsonl')
    throw new UserError(`cannot write ${path}: answers are JSONL, so its name ends in .jsonl`);
  await claimFile(path, options);
}

/** Writes answers, one JSON object a line. Throws UserError as claimPredictions does. */
export async function savePredictions(
  path: string,
  answers: readonly Answer[],
  options: PredictionsOptions = {},
): Promise<void> {
  await claimPredictions(path, options);
  await writeFileAtomic(path, answers.map((answer) => `${JSON.stringify(answer)}\n`).join(''));
}
