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
const QWEN2: Split = { patterns: [gpt4Pattern('')] };

/** Mistral's later vocabularies: words part where their case changes, digits stand alone. */
const UPPER = '\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}';
const LOWER = '\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}';
const TEKKEN_PATTERN = [
  `[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]*[${LOWER}]+`,
  `[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]+[${LOWER}]*`,
  `\\p{N}`,
  ` ?[^${SPACE}\\p{L}\\p{N}]+[\\r\\n/]*`,
  `${SPACE}*[\\r\\n]+`,
  BLANKS,
].join('|');
const TEKKEN: Split = { patterns: [TEKKEN_PATTERN], ignoreMerges: true, addBos: true };

/** By tokenizer.ggml.pre (llama-vocab.cpp). */
export const SPLITS: Readonly<Record<string, Split>> = {
  default: GPT2,
  'gpt-2': GPT2,
  smollm: DIGITS,
  starcoder: DIGITS,
  'llama-bpe': LLAMA3,
  llama3: LLAMA3,
  'llama-v3': LLAMA3,
  falcon3: LLAMA3,
  pixtral: LLAMA3,
  tekken: TEKKEN,
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
  { normalizer, pre_tokenizer }: { normalizer?: { type: string } | null; pre_tokenizer?: unknown },
): string {
  const patterns = steps.safeParse(pre_tokenizer).data?.map(spelledShort);
  const found = Object.entries(SPLITS).find(
    ([name, split]) =>
      name !== 'default' &&
      JSON.stringify(split.patterns.map(spelledShort)) === JSON.stringify(patterns) &&
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
