/** What generation options make of a model's scores before a token is drawn, in the order and by the rules of transformers' logits processors. */
import { UserError } from '../base/errors.js';

/** Options of what may be drawn; each has a value that leaves everything as it is. */
export interface ProcessorOptions {
  /** 0 takes the likeliest token; 1 leaves the model's own distribution. */
  temperature: number;
  /** Only the k likeliest tokens, and those as likely as the last of them; 0: all. */
  topK: number;
  /** Only the likeliest tokens that together have this probability (Holtzman et al., arXiv:1904.09751); 1: all. */
  topP: number;
  /** Only tokens with this share of the likeliest one's probability (Nguyen et al., arXiv:2407.01082); 0: all. */
  minP: number;
  /** Scores of tokens that are there already are divided by it, negative ones multiplied (Keskar et al., arXiv:1909.05858); 1: not. */
  repetitionPenalty: number;
  /** No sequence of so many tokens comes twice; 0: it may. */
  noRepeatNgramSize: number;
  /** Sequences of tokens that do not come. */
  badWordsIds: readonly (readonly number[])[];
  /** Until there are so many new tokens, the end does not come. */
  minNewTokens: number;
  suppressTokens: readonly number[];
  /** Those that do not come first. */
  beginSuppressTokens: readonly number[];
}

/** What has been said so far. */
export interface Said {
  /** The prompt and what came after it. */
  ids: readonly number[];
  /** How many of them are new. */
  fresh: number;
  /** Tokens that end a text. */
  eos: readonly number[];
}

type Processor = (scores: Float32Array, said: Said) => void;

/** Changes scores in place as the options say. Where one is drawn at temperature 0, `temperature` to `minP` play no part. */
export function processorOf(options: ProcessorOptions): Processor {
  const steps = [...constraints(options), ...(options.temperature === 0 ? [] : warpers(options))];
  return (scores, said) => {
    for (const step of steps) step(scores, said);
  };
}

function constraints(o: ProcessorOptions): Processor[] {
  const steps: Processor[] = [];
  if (o.repetitionPenalty !== 1) steps.push(repetitionPenalty(o.repetitionPenalty));
  if (o.noRepeatNgramSize > 0) steps.push(noRepeatedNgrams(o.noRepeatNgramSize));
  if (o.badWordsIds.length > 0) steps.push(noBadWords(o.badWordsIds));
  if (o.minNewTokens > 0) {
    steps.push((scores, { fresh, eos }) => {
      if (fresh < o.minNewTokens) ban(scores, eos);
    });
  }
  if (o.suppressTokens.length > 0) steps.push((scores) => ban(scores, o.suppressTokens));
  if (o.beginSuppressTokens.length > 0) {
    steps.push((scores, { fresh }) => {
      if (fresh === 0) ban(scores, o.beginSuppressTokens);
    });
  }
  return steps;
}

function warpers(o: ProcessorOptions): Processor[] {
  const steps: Processor[] = [];
  if (o.temperature !== 1) steps.push((scores) => divide(scores, o.temperature));
  if (o.topK > 0) steps.push((scores) => keepTopK(scores, o.topK));
  if (o.topP < 1) steps.push((scores) => keepTopP(scores, o.topP));
  if (o.minP > 0) steps.push((scores) => keepMinP(scores, o.minP));
  return steps;
}

function ban(scores: Float32Array, ids: Iterable<number>): void {
  for (const id of ids) if (id < scores.length) scores[id] = Number.NEGATIVE_INFINITY;
}

function repetitionPenalty(penalty: number): Processor {
  return (scores, { ids }) => {
    for (const id of new Set(ids)) {
      if (id < scores.length) scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
    }
  };
}

/** Bans what would end an n-gram that is there already. */
function noRepeatedNgrams(n: number): Processor {
  return (scores, { ids }) => {
    const prefix = ids.length - (n - 1);
    if (prefix < 0) return;
    for (let at = 0; at + n <= ids.length; at++) {
      let same = 0;
      while (same < n - 1 && ids[at + same] === ids[prefix + same]) same++;
      if (same === n - 1) ban(scores, [ids[at + n - 1]]);
    }
  };
}

function noBadWords(words: readonly (readonly number[])[]): Processor {
  return (scores, { ids, eos }) => {
    for (const word of words) {
      const last = word[word.length - 1];
      // A text must be able to end.
      if (word.length === 1 && eos.includes(last)) continue;
      const from = ids.length - (word.length - 1);
      if (from >= 0 && word.slice(0, -1).every((id, i) => ids[from + i] === id)) ban(scores, [last]);
    }
  };
}

function divide(scores: Float32Array, by: number): void {
  for (let i = 0; i < scores.length; i++) scores[i] /= by;
}

function keepTopK(scores: Float32Array, k: number): void {
  if (k >= scores.length) return;
  const least = scores.slice().sort()[scores.length - k];
  for (let i = 0; i < scores.length; i++) if (scores[i] < least) scores[i] = Number.NEGATIVE_INFINITY;
}

/** Cuts the least likely, which together have no more than 1 - p. Of equal ones, those of lower ids go first, as torch sorts. */
function keepTopP(scores: Float32Array, p: number): void {
  const sorted = scores.slice().sort();
  const top = sorted[sorted.length - 1];
  const weights = sorted.map((score) => Math.exp(score - top));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const limit = Math.fround(1 - p);
  let cut = 0;
  for (let sum = 0; cut < sorted.length - 1; cut++) {
    sum += weights[cut] / total;
    if (Math.fround(sum) > limit) break;
  }
  const least = sorted[cut];
  let goes = cut - sorted.indexOf(least);
  for (let i = 0; i < scores.length; i++) {
    if (scores[i] < least || (scores[i] === least && goes-- > 0)) scores[i] = Number.NEGATIVE_INFINITY;
  }
}

function keepMinP(scores: Float32Array, share: number): void {
  const top = scores[argmax(scores)];
  for (let i = 0; i < scores.length; i++) {
    if (Math.exp(scores[i] - top) < share) scores[i] = Number.NEGATIVE_INFINITY;
  }
}

/** Index of the largest value; the first of equals. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** Throws UserError where processors have left no token. */
export function requireChoice(scores: Float32Array): void {
  if (scores[argmax(scores)] !== Number.NEGATIVE_INFINITY) return;
  throw new UserError('the generation options leave no token to go on with');
}
