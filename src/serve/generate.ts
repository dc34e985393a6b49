import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { Rng } from '../base/rng.js';
import { checkJson } from '../formats/io/json.js';
import type { DecoderConfig } from '../models/model.js';
import type { DecodeStep } from './decode.js';
import { sample } from './sample.js';

/** How to generate. The command line makes its flags and their help from this. */
export const generateSchema = z.strictObject({
  maxNewTokens: z.int().positive().default(256).describe('the most tokens to generate'),
  temperature: z
    .number()
    .min(0)
    .default(0)
    .describe('0 takes the likeliest token; 1 samples as the model says'),
  topK: z.int().nonnegative().default(0).describe('sample from the k likeliest tokens; 0: from all'),
  topP: z
    .number()
    .positive()
    .max(1)
    .default(1)
    .describe('sample from the likeliest tokens that together have this probability'),
  seed: z.int().nonnegative().default(0).describe('of the sampling'),
  stop: z
    .array(z.string().min(1))
    .default([])
    .describe('text that ends the generation and is not part of it'),
});
export type GenerateOptions = z.output<typeof generateSchema>;
export type GenerateInput = z.input<typeof generateSchema>;

/** Checks generation options and fills in defaults. Throws UserError prefixed with `place`. */
export function parseGenerateOptions(place: string, options: unknown): GenerateOptions {
  return checkJson(place, options, generateSchema);
}

/** Why a generation ended. */
export type FinishReason = 'eos' | 'length' | 'stop' | 'aborted';

/** Tokens after a prompt, one by one, up to one of `eos` (not yielded) or the limit. Returns why it ended. */
export async function* generateTokens(
  step: DecodeStep,
  config: DecoderConfig,
  prompt: readonly number[],
  options: GenerateOptions,
  eos: readonly number[],
  signal?: AbortSignal,
): AsyncGenerator<number, FinishReason, void> {
  if (prompt.length === 0) throw new UserError('the prompt is empty');
  const cache = step.newCache();
  const virtual = step.promptLength(cache);
  const room = config.maxPositions - virtual - prompt.length;
  if (room <= 0) {
    throw new UserError(
      `the prompt has ${prompt.length} tokens${virtual > 0 ? ` and the adapter ${virtual} virtual ones before it` : ''}, ` +
        `the model takes fewer than ${config.maxPositions}`,
    );
  }
  const rng = new Rng(options.seed, 'sample');
  let logits = await step.run(prompt, cache);
  for (let i = 0; i < Math.min(options.maxNewTokens, room); i++) {
    const id = sample(logits, options, rng);
    if (eos.includes(id)) return 'eos';
    yield id;
    if (signal?.aborted) return 'aborted';
    if (i + 1 < options.maxNewTokens) logits = await step.run([id], cache);
  }
  return 'length';
}

/** Text pieces of a token stream, cut before the first stop string; holds back what may become one. */
export async function* textOf(
  tokens: AsyncGenerator<number, FinishReason, void>,
  decode: { push(id: number): string; end(): string },
  stop: readonly string[],
): AsyncGenerator<string, FinishReason, void> {
  let pending = '';
  for (;;) {
    const next = await tokens.next();
    pending += next.done ? decode.end() : decode.push(next.value);
    const cut = Math.min(...stop.map((s) => indexOrInfinity(pending, s)));
    if (Number.isFinite(cut)) {
      if (cut > 0) yield pending.slice(0, cut);
      await tokens.return('stop');
      return 'stop';
    }
    const safe = next.done ? pending.length : pending.length - heldBack(pending, stop);
    if (safe > 0) yield pending.slice(0, safe);
    pending = pending.slice(safe);
    if (next.done) return next.value;
  }
}

function indexOrInfinity(text: string, part: string): number {
  const at = text.indexOf(part);
  return at < 0 ? Number.POSITIVE_INFINITY : at;
}

/** Length of the longest end of `text` that begins a stop string. */
function heldBack(text: string, stop: readonly string[]): number {
  let held = 0;
  for (const s of stop) {
    for (let n = Math.min(s.length - 1, text.length); n > held; n--) {
      if (text.endsWith(s.slice(0, n))) held = n;
    }
  }
  return held;
}
