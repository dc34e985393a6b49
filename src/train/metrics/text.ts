/** How near texts that a model says come to those that were wanted. */
import { type Bleu, bleu } from './bleu.js';
import { rougeL } from './rouge.js';

export interface TextScores {
  /** The share of texts that are the reference, blanks at both ends aside. */
  exactMatch: number;
  /** 0 to 100, of all texts together. */
  bleu: Bleu;
  /** Mean over the texts, 0 to 1. */
  rougeL: number;
}

/** A prediction is the reference, blanks at both ends aside. */
export function isExact(prediction: string, reference: string): boolean {
  return prediction.trim() === reference.trim();
}

/** Scores predictions with one reference each. Throws RangeError where there are none, or the counts differ. */
export function textScores(predictions: readonly string[], references: readonly string[]): TextScores {
  const mean = (score: (prediction: string, reference: string) => number) =>
    predictions.reduce((sum, prediction, i) => sum + score(prediction, references[i]), 0) /
    predictions.length;
  const scores = bleu(predictions, references);
  return { exactMatch: mean((...pair) => Number(isExact(...pair))), bleu: scores, rougeL: mean(rougeL) };
}
