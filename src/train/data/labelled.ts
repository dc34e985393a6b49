/** Rows that have a label, or get one: a text or a pair of texts, in the words of GLUE's data sets and their like. */
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { checkJson } from '../../formats/io/json.js';
import type { Tokenizer } from '../../formats/tokenizer.js';
import type { Encoding } from './cache.js';
import { type EncodeRowsOptions, emptyStats } from './encode.js';
import type { Fields, Form, Forms } from './form.js';
import type { Row } from './row.js';

/** A label as rows have it: by its name or its number, or a number that is to be told. */
export type Label = string | number;

/** What such a row says. */
export interface LabelledContent {
  readonly kind: 'single texts' | 'pairs of texts';
  readonly text: string;
  /** The second text of a pair. */
  readonly pair?: string;
  readonly label?: Label;
}

/** Keys of single texts, and of pairs. */
const SINGLES = ['text', 'sentence'];
const PAIRS = [
  ['text', 'text_pair'],
  ['sentence1', 'sentence2'],
  ['premise', 'hypothesis'],
  ['question1', 'question2'],
  ['question', 'sentence'],
];

const LABEL = 'label';
const text = z.string({ error: ({ input }) => `expected a text, found ${kindOf(input)}` });
const label = z.union([z.string().min(1), z.number(), z.boolean()], {
  error: ({ input }) => `expected the name or the number of a label, found ${kindOf(input)}`,
});

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'an array (a pair of texts is two keys, as text and text_pair)';
  return value === null || value === undefined ? 'none' : typeof value;
}

/** The forms of rows with labels, or of those that labels are told of, which may have one. */
export function labelledForms({ needsLabel }: { needsLabel: boolean }): Forms<LabelledContent> {
  return [...SINGLES.map((key) => [key]), ...PAIRS].map((keys): Form<LabelledContent> => {
    const [first, second] = keys;
    const shape = z.looseObject({
      [first]: text,
      ...(second !== undefined && { [second]: text }),
      [LABEL]: needsLabel ? label : label.nullish(),
    });
    return {
      needs: needsLabel ? [...keys, LABEL] : keys,
      may: needsLabel ? [] : [LABEL],
      numbers: [LABEL],
      // QNLI's rows have a sentence and a question.
      renders: (other) =>
        second === undefined && other.needs.length > 1 && isPair(other) && other.needs.includes(first),
      read(place: string, record: Fields) {
        const row = checkJson(place, record, shape) as Record<string, string> & {
          [LABEL]?: Label | boolean | null;
        };
        const found = row[LABEL] ?? undefined;
        return {
          kind: second === undefined ? 'single texts' : 'pairs of texts',
          text: row[first],
          ...(second !== undefined && { pair: row[second] }),
          ...(found !== undefined && { label: typeof found === 'boolean' ? String(found) : found }),
        };
      },
    };
  });
}

function isPair({ needs }: Form): boolean {
  return PAIRS.some((keys) => keys.every((key) => needs.includes(key)));
}

/** An input of an encoder, or a sequence of a decoder, with what is to be told of it. */
export interface LabelledExample {
  ids: Int32Array;
  /** Of each token which text it is of; absent where all are of the first. */
  typeIds?: Int32Array;
  /** The number of its class, or the number itself; NaN where it is not known. */
  target: number;
  /** The row that it comes from. */
  line: number;
}

/**
 * Encodes rows as transformers' tokenizers do with truncation: [CLS] A [SEP], [CLS] A [SEP] B [SEP]. `targetOf` reads a label.
 * Throws UserError naming the row whose label is none.
 */
export async function* encodeLabelled(
  rows: AsyncIterable<Row<LabelledContent>> | Iterable<Row<LabelledContent>>,
  tokenizer: Tokenizer,
  { maxLength, source = 'the data' }: EncodeRowsOptions,
  targetOf: (label: Label, place: string) => number,
): Encoding<LabelledExample> {
  const stats = emptyStats();
  for await (const row of rows) {
    const place = `${row.source ?? source} line ${row.line}`;
    const target = row.label === undefined ? Number.NaN : targetOf(row.label, `${place}: key "${LABEL}"`);
    const whole = encodeTexts(tokenizer, row);
    const cut = whole.ids.length > maxLength ? encodeTexts(tokenizer, row, maxLength) : whole;
    stats.rows++;
    stats.examples++;
    stats.tokens += cut.ids.length;
    stats.supervisedTokens++;
    stats.longest = Math.max(stats.longest, whole.ids.length);
    if (cut !== whole) stats.truncated++;
    if (cut.ids.length === 0) throw new UserError(`${place}: its text has no tokens`);
    yield { ...asArrays(cut), target, line: row.line };
  }
  return stats;
}

function encodeTexts(tokenizer: Tokenizer, { text, pair }: LabelledContent, maxLength?: number) {
  return pair === undefined
    ? tokenizer.encodeWhole(text, { maxLength })
    : tokenizer.encodePair(text, pair, { maxLength });
}

function asArrays({
  ids,
  typeIds,
}: {
  ids: number[];
  typeIds: number[];
}): Pick<LabelledExample, 'ids' | 'typeIds'> {
  return {
    ids: Int32Array.from(ids),
    ...(typeIds.some((type) => type !== 0) && { typeIds: Int32Array.from(typeIds) }),
  };
}

/** The number of a label among all: by its name, or as its number. Throws UserError, prefixed with `place`. */
export function classOf(labels: readonly string[]): (label: Label, place: string) => number {
  const numbers = new Map(labels.map((name, i) => [name, i]));
  return (label, place) => {
    const named = numbers.get(String(label));
    if (named !== undefined) return named;
    const number = Number(label);
    if (Number.isInteger(number) && number >= 0 && number < labels.length && String(label).trim() !== '')
      return number;
    throw new UserError(
      `${place}: ${JSON.stringify(label)} is no label of the model, expected one of ${shown(labels)}`,
    );
  };
}

/** A number that is to be told. Throws UserError, prefixed with `place`, where it is none. */
export function numberOf(label: Label, place: string): number {
  const number = typeof label === 'number' ? label : Number(label.trim() === '' ? Number.NaN : label);
  if (Number.isFinite(number)) return number;
  throw new UserError(`${place}: expected a number, found ${JSON.stringify(label)}`);
}

const SHOWN = 20;

/** Labels for an error: the first of them, and how many more there are. */
function shown(labels: readonly string[]): string {
  const rest = labels.length - SHOWN;
  return `${labels.slice(0, SHOWN).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

/**
 * Labels, each once, in the order of their numbers where they are whole numbers from 0 on, else by name. Throws
 * UserError where there are fewer than two, or numbers that are no classes.
 */
export async function labelsIn(labels: AsyncIterable<Label>, source: string): Promise<string[]> {
  const found = new Set<Label>();
  for await (const label of labels) found.add(label);
  const names = [...new Set([...found].map(String))];
  if (names.length < 2) {
    throw new UserError(
      `${source}: all rows have the label ${JSON.stringify(names[0])}, and a classifier needs two labels or more`,
    );
  }
  const broken = [...found].find((one) => typeof one === 'number' && !Number.isInteger(one));
  if (broken !== undefined) {
    throw new UserError(`${source}: the label ${broken} is no class; train for regression to tell numbers`);
  }
  const numbers = names.map(Number).sort((a, b) => a - b);
  if (numbers.every((n, i) => n === i)) return numbers.map(String);
  if (numbers.every(Number.isInteger) && numbers[0] < 0) {
    throw new UserError(
      `${source}: the label ${numbers[0]} is no class; rows without a label are not trained on`,
    );
  }
  return names.sort();
}
