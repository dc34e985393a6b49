/** The ways in which byte-level vocabularies of llama.cpp split text, and which of them a tokenizer.json has. */
import * as z from 'zod';
import { UserError } from '../../base/errors.js';

/** How byte-level vocabularies split text before merging, and what else their tokenizer.json has. */
export interface Split {
  /** One after the other; what matches is a piece, and so is what lies between. */
  patterns: readonly string[];
  normalizer?: { type: string };
  /** Whole pieces that are tokens stay whole, whatever the merges say. */
  ignoreMerges?: boolean;
  /** Where the file does not say. */
  addBos?: boolean;
}

/*
 * Spelled so that the Rust library and the JavaScript one agree: \s is another set in each (U+FEFF, U+0085),
 * and so are the numbers of the step named Digits (all of \p{N}, or 0 to 9).
 */
const SPACE = '\\p{White_Space}';
const NO_SPACE = '\\P{White_Space}';
const BLANKS = `${SPACE}+(?!${NO_SPACE})|${SPACE}+`;
const GPT2_PATTERN = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|${BLANKS}`;

/** The later pattern of GPT-4's family; `numbers` is how many digits stay together. */
function gpt4Pattern(numbers: string): string {
  const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
  const words = '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+';
  const signs = ` ?[^${SPACE}\\p{L}\\p{N}]+[\\r\\n]*|${SPACE}*[\\r\\n]+`;
  return `${contractions}|${words}|\\p{N}${numbers}|${signs}|${BLANKS}`;
}

const GPT2: Split = { patterns: [GPT2_PATTERN] };
const DIGITS: Split = { patterns: ['\\p{N}', GPT2_PATTERN] };
const LLAMA3: Split = { patterns: [gpt4Pattern('{1,3}')], ignoreMerges: true, addBos: true };
/** The same text as Llama 3 splits it, and merges as they are: OLMo 2, SmolLM3. */
const DBRX: Split = { patterns: [gpt4Pattern('{1,3}')] };
const QWEN2: Split = { patterns: [gpt4Pattern('')] };
/** GPT-NeoX's vocabulary composes characters first, which llama.cpp leaves out. */
const NEOX: Split = { patterns: [GPT2_PATTERN], normalizer: { type: 'NFC' } };

/** Mistral's later vocabularies, and GPT-4o's: words part where their case changes. */
const UPPER = '\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}';
const LOWER = '\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}';
/** `contractions` are what a word may end with, `numbers` how many digits stay together. */
function casedPattern(contractions: string, numbers: string): string {
  return [
    `[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]*[${LOWER}]+${contractions}`,
    `[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]+[${LOWER}]*${contractions}`,
    `\\p{N}${numbers}`,
    ` ?[^${SPACE}\\p{L}\\p{N}]+[\\r\\n/]*`,
    `${SPACE}*[\\r\\n]+`,
    BLANKS,
  ].join('|');
}
const TEKKEN: Split = { patterns: [casedPattern('', '')], ignoreMerges: true, addBos: true };
/** GPT-4o's, which Phi-4-mini has. */
const GPT4O: Split = { patterns: [casedPattern("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", '{1,3}')] };

/** By tokenizer.ggml.pre (llama-vocab.cpp). */
export const SPLITS: Readonly<Record<string, Split>> = {
  default: GPT2,
  'gpt-2': GPT2,
  'phi-2': GPT2,
  smollm: DIGITS,
  starcoder: DIGITS,
  // Granite's.
  refact: DIGITS,
  'llama-bpe': LLAMA3,
  llama3: LLAMA3,
  'llama-v3': LLAMA3,
  falcon3: LLAMA3,
  pixtral: LLAMA3,
  dbrx: DBRX,
  'smaug-bpe': DBRX,
  tekken: TEKKEN,
  'gpt-4o': GPT4O,
  mpt: NEOX,
  olmo: NEOX,
  // Qwen's own tokenizer composes characters first, which llama.cpp leaves out.
  qwen2: { ...QWEN2, normalizer: { type: 'NFC' } },
  'deepseek-r1-qwen': QWEN2,
};

const step = z.union([
  z
    .looseObject({
      type: z.literal('Split'),
      pattern: z.object({ Regex: z.string() }),
      behavior: z.literal('Isolated'),
      invert: z.literal(false).optional(),
    })
    .transform(({ pattern }) => [pattern.Regex]),
  // What is between the matches is dropped, and these patterns leave nothing there.
  z
    .looseObject({
      type: z.literal('Split'),
      pattern: z.object({ Regex: z.string().endsWith('|\\s+') }),
      behavior: z.literal('Removed'),
      invert: z.literal(true),
    })
    .transform(({ pattern }) => [pattern.Regex]),
  z
    .looseObject({ type: z.literal('Digits'), individual_digits: z.literal(true) })
    .transform(() => ['\\p{N}']),
  z
    .looseObject({
      type: z.literal('ByteLevel'),
      add_prefix_space: z.literal(false),
      use_regex: z.boolean().default(true),
    })
    .transform(({ use_regex }) => (use_regex ? [GPT2_PATTERN] : [])),
]);
const steps = z.union([
  step,
  z
    .looseObject({ type: z.literal('Sequence'), pretokenizers: z.array(step) })
    .transform(({ pretokenizers }) => pretokenizers.flat()),
]);

/**
 * llama.cpp's name of what a tokenizer.json does before its model. Throws UserError where llama.cpp is not known to do
 * the same. `place` names the file.
 */
export function preNameOf(
  place: string,
  {
    normalizer,
    pre_tokenizer,
    model,
  }: {
    normalizer?: { type: string } | null;
    pre_tokenizer?: unknown;
    model: { ignore_merges?: boolean | null };
  },
): string {
  const patterns = steps.safeParse(pre_tokenizer).data?.map(spelledShort);
  const found = Object.entries(SPLITS).find(
    ([name, split]) =>
      name !== 'default' &&
      JSON.stringify(split.patterns.map(spelledShort)) === JSON.stringify(patterns) &&
      (split.ignoreMerges ?? false) === (model.ignore_merges ?? false) &&
      (split.normalizer?.type ?? null) === (normalizer?.type ?? null),
  );
  if (found) return found[0];
  throw new UserError(
    `${place}: its normalizer and pre_tokenizer split text in a way that llama.cpp is not known to have, so it is not written as GGUF`,
  );
}

/** White space as Hugging Face's own files spell it. */
function spelledShort(pattern: string): string {
  return pattern.replaceAll(SPACE, '\\s').replaceAll(NO_SPACE, '\\S');
}
