/** Generations on the way through a training run. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import type { ChatMessage } from '../formats/chat.js';
import { checkJson } from '../formats/io/json.js';
import type { Tokenizer } from '../formats/tokenizer.js';
import type { BaseModel } from '../models/base.js';
import type { TrainEvent } from '../train/loop.js';
import type { Objective } from '../train/objective.js';

const text = z.string().min(1);

/** Options of when a run generates, and from what. They change nothing in what is trained. */
export const sampleShape = {
  sampleSteps: z
    .int()
    .nonnegative()
    .default(0)
    .describe('generate each N steps, at the start and at the end, to see what is learned; 0: do not'),
  samplePrompt: z
    .array(text)
    .default([])
    .describe('text to continue then; without any, the beginnings of the first rows, held-out ones first'),
  sampleChat: z.array(text).default([]).describe("message to answer then, by the model's chat template"),
  sampleMaxTokens: z.int().positive().default(64).describe('the most tokens to generate each time'),
};
export const sampleSchema = z.strictObject(sampleShape);
export type SampleOptions = z.output<typeof sampleSchema>;
export type SampleInput = z.input<typeof sampleSchema>;

/** One generation, greedy, so that those of several steps can be compared. */
export interface SampleEvent {
  kind: 'sample';
  /** Steps done; 0 before training. */
  step: number;
  prompt: string;
  /** What the model says after it. */
  text: string;
  tokens: number;
}

/** What a generation starts from. */
export interface SamplePrompt {
  /** As it is shown. */
  prompt: string;
  ids: readonly number[];
}

/** Rows that are taken where no prompt is given. */
const DEFAULT_PROMPTS = 2;
/** Weights up to this size in float32 stay loaded for generation beside those for training. */
const KEPT_BYTES = 128e6;

/** Checks options and fills in defaults. Throws UserError prefixed with `place`. */
export function parseSampleOptions(place: string, options: unknown): SampleOptions {
  const parsed = checkJson(place, options, sampleSchema);
  if (parsed.sampleSteps === 0 && parsed.samplePrompt.length + parsed.sampleChat.length > 0) {
    throw new UserError(`${place}: there is something to sample, but sampleSteps does not say when`);
  }
  return parsed;
}

/** The step that generations are due behind an event; undefined where none are. */
export function sampledStep(event: TrainEvent, { sampleSteps }: SampleOptions): number | undefined {
  if (sampleSteps === 0) return undefined;
  if (event.kind === 'start') return event.step === 0 ? 0 : undefined;
  if (event.kind !== 'step') return undefined;
  return event.step % sampleSteps === 0 || event.step === event.steps ? event.step : undefined;
}

/**
 * The prompts that options name; without any, the beginnings of the first rows. None where nothing is sampled. Throws
 * UserError where something should be of an objective that generates nothing.
 */
export function promptsOf<E>(
  { sampleSteps, samplePrompt, sampleChat }: SampleOptions,
  { name, beginning }: Pick<Objective<E>, 'name' | 'beginning'>,
  examples: Iterable<E>,
  tokenizer: Tokenizer,
  encode: (prompt: string | readonly ChatMessage[]) => number[],
): SamplePrompt[] {
  if (sampleSteps === 0) return [];
  if (!beginning) throw new UserError(`sampleSteps: training for ${name} has no text to generate`);
  const given = [
    ...samplePrompt.map((prompt) => ({ prompt, ids: encode(prompt) })),
    ...sampleChat.map((content) => ({ prompt: content, ids: encode([{ role: 'user', content }]) })),
  ];
  return given.length > 0 ? given : beginningsOf(examples, beginning, tokenizer);
}

/** Those of the first rows that differ in them. */
function beginningsOf<E>(
  examples: Iterable<E>,
  beginning: (example: E) => Int32Array,
  tokenizer: Tokenizer,
): SamplePrompt[] {
  const prompts = new Map<string, SamplePrompt>();
  for (const example of examples) {
    const head = [...beginning(example)];
    prompts.set(head.join(), { prompt: tokenizer.decode(head), ids: head });
    if (prompts.size === DEFAULT_PROMPTS) break;
  }
  return [...prompts.values()];
}

/**
 * Whether a graph for generation may stay loaded while the model trains. Where it may not, it is made for each
 * sampling, of weights that are not repacked: slower by the token, and without that second copy in memory.
 */
export function keepsDecoder(base: BaseModel): boolean {
  let bytes = 0;
  for (const shape of base.parameters.values()) bytes += 4 * shape.reduce((a, b) => a * b, 1);
  return bytes <= KEPT_BYTES;
}
