/** Rows of words with a label each, as CoNLL's data sets have them: named entities, parts of speech. */
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { checkJson } from '../../formats/io/json.js';
import type { Tokenizer } from '../../formats/tokenizer.js';
import type { Encoding } from './cache.js';
import { type EncodeRowsOptions, emptyStats } from './encode.js';
import type { Fields, Form, Forms } from './form.js';
import type { Label } from './labelled.js';
import type { Row } from './row.js';

/** What such a row says. */
export interface TaggedContent {
  readonly kind: 'words';
  readonly words: readonly string[];
  /** Of each word; absent where they are to be told. */
  readonly labels?: readonly Label[];
}

const WORDS = 'tokens';
const LABELS = ['labels', 'tags', 'ner_tags', 'pos_tags'];

const words = z.array(z.string(), { error: 'expected a list of words' }).min(1);
const labels = z.array(z.union([z.string().min(1), z.int().nonnegative()]), {
  error: 'expected a list of labels, one a word',
});

/** The forms of rows with labels, or of those that labels are told of, which may have some. */
export function taggedForms({ needsLabels }: { needsLabels: boolean }): Forms<TaggedContent> {
  const form = (key?: string): Form<TaggedContent> => ({
    needs: key === undefined ? [WORDS] : [WORDS, key],
    json: key === undefined ? [WORDS] : [WORDS, key],
    read(place: string, record: Fields) {
      const shape = z.looseObject({ [WORDS]: words, ...(key !== undefined && { [key]: labels }) });
      const row = checkJson(place, record, shape) as Record<string, unknown>;
      const found = row[WORDS] as string[];
      if (key === undefined) return { kind: 'words', words: found };
      const own = row[key] as Label[];
      if (own.length !== found.length) {
        throw new UserError(`${place}: key "${key}": ${own.length} labels for ${found.length} words`);
      }
      return { kind: 'words', words: found, labels: own };
    },
  });
  return needsLabels ? LABELS.map(form) : [form()];
}

/** A sequence with the number of a label at some of its tokens. */
export interface TaggedExample {
  ids: Int32Array;
  /** The positions of the first token of each word that is there whole or in part. */
  positions: Int32Array;
  /** Those words. */
  words: readonly string[];
  /** The number of the label of each of them; 0 where it is to be told. */
  targets: Int32Array;
  /** The row that it comes from. */
  line: number;
}

/**
 * Encodes rows word by word, as transformers does with `is_split_into_words`: a word's label is that of its first token.
 * Throws UserError naming the row whose label is none, and where no row has a word.
 */
export async function* encodeTagged(
  rows: AsyncIterable<Row<TaggedContent>> | Iterable<Row<TaggedContent>>,
  tokenizer: Tokenizer,
  { maxLength, source = 'the data' }: EncodeRowsOptions,
  targetOf: (label: Label, place: string) => number,
): Encoding<TaggedExample> {
  const stats = emptyStats();
  for await (const { words: own, labels: given, line, source: file = source } of rows) {
    const place = `${file} line ${line}`;
    const { ids, starts } = tokenizer.encodeWords(own, { maxLength });
    const known = own.map((_, i) => i).filter((i) => starts[i] !== undefined);
    stats.rows++;
    stats.longest = Math.max(stats.longest, ids.length);
    if (known.length < own.length) stats.truncated++;
    if (known.length === 0) {
      stats.dropped++;
      continue;
    }
    const targets = known.map((i) =>
      given ? targetOf(given[i], `${place}: label ${i + 1}, of ${JSON.stringify(own[i])}`) : 0,
    );
    stats.examples++;
    stats.tokens += ids.length;
    stats.supervisedTokens += known.length;
    yield {
      ids: Int32Array.from(ids),
      positions: Int32Array.from(known, (i) => starts[i]!),
      words: known.map((i) => own[i]),
      targets: Int32Array.from(targets),
      line,
    };
  }
  if (stats.examples === 0) throw new UserError(`${source}: no row has a word within ${maxLength} tokens`);
  return stats;
}
