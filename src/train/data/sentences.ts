/** Rows of texts that belong together, as sentence-transformers reads their columns in order: a text, its match, what does not match. */
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { checkJson } from '../../formats/io/json.js';
import type { Tokenizer } from '../../formats/tokenizer.js';
import type { Encoding } from './cache.js';
import { type EncodeRowsOptions, emptyStats } from './encode.js';
import type { Fields, Form, Forms } from './form.js';
import type { Row } from './row.js';

/** What such a row says. */
export interface SentencesContent {
  readonly kind: 'single texts' | 'pairs of texts' | 'texts with a match and a negative';
  readonly text: string;
  /** What belongs to it, and what does not although it looks alike. */
  readonly match?: string;
  readonly negative?: string;
}

/** Keys of rows to learn from, in the order of the texts. */
const PAIRS = [
  ['anchor', 'positive'],
  ['query', 'positive'],
  ['query', 'answer'],
  ['question', 'answer'],
  ['sentence1', 'sentence2'],
  ['text', 'text_pair'],
];
const TRIPLES = [
  ['anchor', 'positive', 'negative'],
  ['query', 'positive', 'negative'],
];
/** Keys of texts to embed. */
const SINGLES = [['text'], ['sentence']];
/** Keys that say how well a pair fits, which nothing here looks at. */
const SCORES = ['label', 'score'];
const KINDS = ['single texts', 'pairs of texts', 'texts with a match and a negative'] as const;

const textSchema = z.string({
  error: ({ input }) =>
    `expected a text, found ${(input ?? null) === null ? 'none' : Array.isArray(input) ? 'an array' : typeof input}`,
});

function formOf(keys: readonly string[]): Form<SentencesContent> {
  const shape = z.looseObject(Object.fromEntries(keys.map((key) => [key, textSchema])));
  const isPair = keys.length === 2;
  return {
    needs: keys,
    may: isPair ? SCORES : [],
    // A triple has a pair in it.
    renders: ({ needs }) => needs.length > keys.length && keys.every((key) => needs.includes(key)),
    read(place: string, record: Fields) {
      const row = checkJson(place, record, shape) as Record<string, string>;
      const score = isPair ? SCORES.find((key) => key in record) : undefined;
      if (score !== undefined) {
        throw new UserError(
          `${place}: key "${score}": each pair is learned as one that belongs together, so leave out the rows that do not, and this key`,
        );
      }
      const [first, match, negative] = keys.map((key) => row[key]);
      return {
        kind: KINDS[keys.length - 1],
        text: first,
        ...(match !== undefined && { match }),
        ...(negative !== undefined && { negative }),
      };
    },
  };
}

/** The forms of rows to learn from. */
export const MATCHED_FORMS: Forms<SentencesContent> = [...PAIRS, ...TRIPLES].map(formOf);
/** Those of texts to embed. */
export const SINGLE_FORMS: Forms<SentencesContent> = SINGLES.map(formOf);

/** A text's tokens, with all that the tokenizer puts around it. */
export interface Sentence {
  ids: Int32Array;
}

/** Texts that belong together: an anchor, its match, a negative; or one alone. */
export interface SentencesExample {
  sentences: readonly Sentence[];
  /** The row that it comes from. */
  line: number;
}

/** Encodes rows, each text by itself as transformers' tokenizers do with truncation. Throws UserError for a text without tokens. */
export async function* encodeSentences(
  rows: AsyncIterable<Row<SentencesContent>> | Iterable<Row<SentencesContent>>,
  tokenizer: Tokenizer,
  { maxLength, source = 'the data' }: EncodeRowsOptions,
): Encoding<SentencesExample> {
  const stats = emptyStats();
  for await (const { text, match, negative, line, source: file } of rows) {
    const texts = [text, match, negative].filter((one) => one !== undefined);
    const whole = texts.map((text) => tokenizer.encodeWhole(text).ids.length);
    const sentences = texts.map((text): Sentence => {
      const { ids } = tokenizer.encodeWhole(text, { maxLength });
      if (ids.length === 0) throw new UserError(`${file ?? source} line ${line}: a text in it has no tokens`);
      return { ids: Int32Array.from(ids) };
    });
    const longest = Math.max(...whole);
    stats.rows++;
    stats.examples++;
    stats.tokens += sentences.reduce((sum, { ids }) => sum + ids.length, 0);
    stats.supervisedTokens++;
    stats.longest = Math.max(stats.longest, longest);
    if (longest > maxLength) stats.truncated++;
    yield { sentences, line };
  }
  return stats;
}
