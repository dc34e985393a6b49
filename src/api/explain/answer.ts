/** What an answer is made of. */
import type { Bench } from './bench.js';

/** A table of an answer; numbers are figures to be told as they are. */
export interface AnswerTable {
  head: readonly string[];
  rows: readonly (readonly (string | number)[])[];
}

export interface Answer {
  /** The answer in words, with its figures. */
  text: readonly string[];
  tables: readonly AnswerTable[];
  /** The figures by name, as they were computed. */
  figures: Readonly<Record<string, number>>;
}

/** A question and how it is answered. */
export interface Topic {
  /** What is typed for it. */
  name: string;
  question: string;
  /** Answers by arithmetic alone, */
  compute?: () => Answer;
  /** or by what is measured on the model that comes along. */
  measure?: (bench: Bench) => Promise<Answer>;
}

/** 150,994,944 */
export function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** With so many digits that count, never as 1e-5: 0.00123, 21.6, 1,536. */
export function digits(value: number, count = 3): string {
  const rounded = Number(value.toPrecision(count));
  return rounded.toLocaleString('en-US', { maximumSignificantDigits: count });
}

/** A loss, in nats: 4.902 */
export function nats(value: number): string {
  return value.toFixed(3);
}

/** 0.34% */
export function share(value: number): string {
  return `${digits(100 * value)}%`;
}

/** √Σx² of all values of some tensors. */
export function norm(tensors: Iterable<ArrayLike<number>>): number {
  let sum = 0;
  for (const values of tensors) for (let i = 0; i < values.length; i++) sum += values[i] ** 2;
  return Math.sqrt(sum);
}
