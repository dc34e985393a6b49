/** BLEU of a whole set of texts, as sacrebleu computes it by default: its 13a tokenizer and its exponential smoothing. */
import { strip, words } from '../../formats/jinja/text.js';

/** What sacrebleu calls the way in which this is computed; the version is the one that it is compared with. */
export const BLEU_SIGNATURE = 'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0';

const ORDERS = [1, 2, 3, 4];

export interface Bleu {
  /** 0 to 100. */
  score: number;
  /** Of n-grams of 1 to 4 tokens, the share of the predicted ones that the references have, in percent. */
  precisions: number[];
  /** What texts that are shorter than their references are multiplied by. */
  brevityPenalty: number;
  /** Tokens of all predictions, and of all references. */
  predictionLength: number;
  referenceLength: number;
  signature: string;
}

/** BLEU of predictions with one reference each. Throws RangeError where there are none, or the counts differ. */
export function bleu(predictions: readonly string[], references: readonly string[]): Bleu {
  if (predictions.length === 0) throw new RangeError('no texts to score');
  if (predictions.length !== references.length)
    throw new RangeError(`${predictions.length} predictions, but ${references.length} references`);
  const counts = ORDERS.map(() => ({ right: 0, all: 0 }));
  let [predictionLength, referenceLength] = [0, 0];
  predictions.forEach((prediction, i) => {
    const [said, wanted] = [tokens13a(prediction), tokens13a(references[i])];
    predictionLength += said.length;
    referenceLength += wanted.length;
    for (const [order, count] of counts.entries()) {
      const there = ngrams(wanted, ORDERS[order]);
      for (const [ngram, times] of ngrams(said, ORDERS[order])) {
        count.all += times;
        // What is said more often than it is wanted is right only so often.
        count.right += Math.min(times, there.get(ngram) ?? 0);
      }
    }
  });
  const brevityPenalty = penaltyOf(predictionLength, referenceLength);
  const precisions = smoothed(counts);
  // An order without n-grams has no precision, and the geometric mean with it is 0.
  const mean = precisions.includes(0)
    ? 0
    : Math.exp(precisions.reduce((sum, precision) => sum + Math.log(precision), 0) / precisions.length);
  return {
    score: brevityPenalty * mean,
    precisions,
    brevityPenalty,
    predictionLength,
    referenceLength,
    signature: BLEU_SIGNATURE,
  };
}

function penaltyOf(said: number, wanted: number): number {
  if (said >= wanted) return 1;
  return said === 0 ? 0 : Math.exp(1 - wanted / said);
}

/** In percent. The first order without a hit counts as half of one, the second as a quarter, and so on (NIST's smoothing). */
function smoothed(counts: readonly { right: number; all: number }[]): number[] {
  if (counts.every(({ right }) => right === 0)) return counts.map(() => 0);
  let share = 1;
  return counts.map(({ right, all }) => {
    if (all === 0) return 0;
    if (right > 0) return (100 * right) / all;
    share /= 2;
    return (100 * share) / all;
  });
}

/** How often each sequence of n tokens is there. Tokens have no blanks, so that joined they cannot be confused. */
function ngrams(tokens: readonly string[], n: number): Map<string, number> {
  const found = new Map<string, number>();
  for (let at = 0; at + n <= tokens.length; at++) {
    const ngram = tokens.slice(at, at + n).join(' ');
    found.set(ngram, (found.get(ngram) ?? 0) + 1);
  }
  return found;
}

const ENTITIES = [
  ['&quot;', '"'],
  ['&amp;', '&'],
  ['&lt;', '<'],
  ['&gt;', '>'],
] as const;

/** All ASCII punctuation but ' , - and . */
const PUNCTUATION = /[{-~[-` -&(-+:-@/]/g;

/** The tokens of mteval-v13a, the tokenizer of WMT. Lines are joined, and a word that a hyphen divides at a line's end with them. */
export function tokens13a(text: string): string[] {
  // First the end: a hyphen before the last line's end divides no word.
  let line = strip(text, undefined, false, true);
  line = line.replaceAll('<skipped>', '').replaceAll('-\n', '').replaceAll('\n', ' ');
  for (const [entity, character] of ENTITIES) line = line.replaceAll(entity, character);
  const spaced = ` ${line} `
    .replace(PUNCTUATION, ' $& ')
    // A point or comma stays where it stands between two digits.
    .replace(/([^0-9])([.,])/gu, '$1 $2 ')
    .replace(/([.,])([^0-9])/gu, ' $1 $2')
    .replace(/([0-9])(-)/g, '$1 $2 ');
  return words(spaced);
}
