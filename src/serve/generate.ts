import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { Rng } from '../base/rng.js';
import type { GenerationSettings } from '../formats/generationConfig.js';
import { checkJson } from '../formats/io/json.js';
import type { ModelConfig } from '../models/model.js';
import type { DecodeStep } from './decode.js';
import { argmax, type ProcessorOptions, processorOf, requireChoice } from './processors.js';
import { sample } from './sample.js';

const tokenIds = z.array(z.int('expected token ids, as 5,17').nonnegative());

/**
 * How to generate. The command line makes its flags and their help from this. What is not given is as the model's
 * generation_config.json says, else as the help says.
 */
export const generateSchema = z.strictObject({
  maxNewTokens: z.int().positive().optional().describe('the most tokens to generate (default: 256)'),
  doSample: z
    .boolean()
    .optional()
    .describe(
      'sample instead of taking the likeliest token; --temperature above 0, --top-k, --top-p and --min-p do so too',
    ),
  temperature: z
    .number()
    .min(0)
    .optional()
    .describe(
      '0 takes the likeliest token, above 0 samples, 1 as the model says (default: 1 where it samples)',
    ),
  topK: z
    .int()
    .nonnegative()
    .optional()
    .describe('sample from the k likeliest tokens; 0: from all (default: 50)'),
  topP: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe('sample from the likeliest tokens that together have this probability (default: 1)'),
  minP: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe("sample from tokens with this share of the likeliest one's probability (default: 0)"),
  repetitionPenalty: z
    .number()
    .positive()
    .optional()
    .describe('make tokens that are there already less likely, above 1 (default: 1)'),
  noRepeatNgramSize: z
    .int()
    .nonnegative()
    .optional()
    .describe('let no sequence of so many tokens come twice; 0: it may (default: 0)'),
  minNewTokens: z.int().nonnegative().optional().describe('the fewest tokens to generate (default: 0)'),
  suppressTokens: tokenIds.optional().describe('tokens that do not come, by id'),
  beginSuppressTokens: tokenIds.optional().describe('tokens that do not come first, by id'),
  badWordsIds: z
    .array(tokenIds.min(1))
    .optional()
    .describe('a sequence of tokens that does not come, by ids'),
  seed: z.int().nonnegative().default(0).describe('of the sampling'),
  stop: z.array(z.string().min(1)).optional().describe('text that ends the generation and is not part of it'),
});
export type GenerateInput = z.input<typeof generateSchema>;

/** All that generating needs, with nothing left open. */
export interface GenerateOptions extends ProcessorOptions {
  maxNewTokens: number;
  seed: number;
  stop: readonly string[];
}

/** New tokens where neither the options nor the model say how many. */
const MAX_NEW_TOKENS = 256;
/** What transformers samples from where neither says. */
const TOP_K = 50;

/**
 * Checks generation options and fills in what is left open from a model's own settings, as transformers does, for a
 * prompt of so many tokens. Throws UserError prefixed with `place`.
 */
export function parseGenerateOptions(
  place: string,
  options: unknown,
  model: GenerationSettings['settings'] = {},
  promptTokens = 0,
): GenerateOptions {
  const o = checkJson(place, options, generateSchema);
  const limit = model.max_new_tokens ?? (model.max_length ? model.max_length - promptTokens : MAX_NEW_TOKENS);
  const maxNewTokens = o.maxNewTokens ?? limit;
  if (maxNewTokens <= 0) {
    throw new UserError(
      `the prompt has ${promptTokens} tokens and the model's generation_config.json a max_length of ${model.max_length}: give maxNewTokens`,
    );
  }
  const stop = model.stop_strings ?? [];
  return {
    maxNewTokens,
    minNewTokens:
      o.minNewTokens ?? model.min_new_tokens ?? Math.max(0, (model.min_length ?? 0) - promptTokens),
    temperature: samples(o, model) ? (o.temperature ?? model.temperature ?? 1) : 0,
    topK: o.topK ?? model.top_k ?? TOP_K,
    topP: o.topP ?? model.top_p ?? 1,
    minP: o.minP ?? model.min_p ?? 0,
    repetitionPenalty: o.repetitionPenalty ?? model.repetition_penalty ?? 1,
    noRepeatNgramSize: o.noRepeatNgramSize ?? model.no_repeat_ngram_size ?? 0,
    suppressTokens: o.suppressTokens ?? model.suppress_tokens ?? [],
    beginSuppressTokens: o.beginSuppressTokens ?? model.begin_suppress_tokens ?? [],
    badWordsIds: o.badWordsIds ?? model.bad_words_ids ?? [],
    seed: o.seed,
    stop: o.stop ?? (typeof stop === 'string' ? [stop] : stop),
  };
}

/** Who gives an option of sampling wants to sample. */
function samples(o: GenerateInput, model: GenerationSettings['settings']): boolean {
  if (o.doSample !== undefined) return o.doSample;
  if (o.temperature !== undefined) return o.temperature > 0;
  return [o.topK, o.topP, o.minP].some((given) => given !== undefined) || model.do_sample === true;
}

/** Why a generation ended. */
export type FinishReason = 'eos' | 'length' | 'stop' | 'aborted';

/** Tokens after a prompt, one by one, up to one of `eos` (not yielded) or the limit. Returns why it ended. */
export async function* generateTokens(
  step: DecodeStep,
  config: ModelConfig,
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
  if (signal?.aborted) return 'aborted';
  const rng = new Rng(options.seed, 'sample');
  const process = processorOf(options);
  const ids = [...prompt];
  let logits = await step.run(prompt, cache);
  for (let i = 0; i < Math.min(options.maxNewTokens, room); i++) {
    if (signal?.aborted) return 'aborted';
    process(logits, { ids, fresh: i, eos });
    requireChoice(logits);
    const id = options.temperature === 0 ? argmax(logits) : sample(logits, rng);
    if (eos.includes(id)) return 'eos';
    ids.push(id);
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
