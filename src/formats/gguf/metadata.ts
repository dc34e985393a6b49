import { UserError } from '../../base/errors.js';
import type { Gguf, GgufValue } from './reader.js';

/** Typed access to a GGUF file's metadata. What is missing or of another type is a UserError that names the key. */
export class Metadata {
  constructor(private readonly gguf: Pick<Gguf, 'path' | 'metadata'>) {}

  fail(what: string): never {
    throw new UserError(`${this.gguf.path}: ${what}`);
  }

  has(key: string): boolean {
    return this.gguf.metadata.has(key);
  }

  string(key: string, fallback?: string): string {
    return this.get(key, fallback, 'a string', (value) => typeof value === 'string');
  }

  boolean(key: string, fallback?: boolean): boolean {
    return this.get(key, fallback, 'true or false', (value) => typeof value === 'boolean');
  }

  number(key: string, fallback?: number): number {
    return this.get(key, fallback, 'a finite number', (value): value is number => Number.isFinite(value));
  }

  /** A number that was written as a float32, as the decimal that was meant. */
  real(key: string, fallback?: number): number {
    return shortestF32(this.number(key, fallback));
  }

  /** A whole number from 0, at most `max`. */
  count(key: string, fallback?: number, max = 2 ** 31): number {
    return this.get(
      key,
      fallback,
      `a whole number up to ${max}`,
      (value): value is number => Number.isInteger(value) && Number(value) >= 0 && Number(value) <= max,
    );
  }

  strings(key: string, fallback?: string[]): string[] {
    return this.get(
      key,
      fallback,
      'an array of strings',
      (value): value is string[] => Array.isArray(value) && value.every((v) => typeof v === 'string'),
    );
  }

  numbers(key: string, fallback?: number[]): number[] {
    return this.get(
      key,
      fallback,
      'an array of numbers',
      (value): value is number[] => Array.isArray(value) && value.every((v) => typeof v === 'number'),
    );
  }

  /** One truth value a layer; undefined where the file has none, or something else. */
  booleans(key: string): boolean[] | undefined {
    const value = this.gguf.metadata.get(key);
    return Array.isArray(value) && value.every((v) => typeof v === 'boolean') ? value : undefined;
  }

  private get<T extends GgufValue>(
    key: string,
    fallback: T | undefined,
    expected: string,
    is: (value: GgufValue) => value is T,
  ): T {
    const value = this.gguf.metadata.get(key) ?? fallback;
    if (value === undefined) this.fail(`metadata ${JSON.stringify(key)} is missing, expected ${expected}`);
    if (!is(value)) this.fail(`metadata ${JSON.stringify(key)} is not ${expected}`);
    return value;
  }
}

/** The decimal number that was meant by a float32, 1e-5 for 0.000009999999747: the shortest that rounds to it. */
export function shortestF32(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === Math.fround(value)) return short;
  }
  return value;
}
