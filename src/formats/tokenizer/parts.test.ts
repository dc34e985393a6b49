/**
 * Each part of tokenizer.json alone, and whole tokenizers, against what the Rust library makes of the same
 * (scripts/parity/make_tokenizer_fixtures.py).
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { StreamDecoder, Tokenizer } from '../tokenizerCore.js';
import { decoderSchema } from './decoders.js';
import { normalizerSchema } from './normalizers.js';
import { Pipeline, tokenizerJsonSchema } from './pipeline.js';
import { preTokenizerSchema } from './preTokenizers.js';

/** Results by text; null where the library ends with an error, 0 where the text stays as it was. */
interface Case<T> {
  json: object;
  /** Null where the library refuses the part. */
  results: (T | null | 0)[] | null;
}
interface Whole {
  name: string;
  json: object;
  results: (number[] | null)[] | null;
  special: (number[] | null)[];
  decoded: (string | 0 | null)[];
  skipped: (string | 0 | null)[];
  others: [number[], string | null][];
}
interface Fixture {
  texts: string[];
  tokens: string[][];
  normalizers: Case<string>[];
  preTokenizers: Case<string[]>[];
  decoders: Case<string>[];
  tokenizers: Whole[];
}

const fixture: Fixture = JSON.parse(
  readFileSync(
    process.env.LOWRANK_TOKENIZER_PARTS ?? new URL('../fixtures/tokenizer/parts.json', import.meta.url),
    'utf8',
  ),
);
const LIMIT = 1 << 20;
const titled = <T extends { json: object }>(cases: T[]) =>
  cases.map((of) => [JSON.stringify(of.json), of] as const);

/** What is refused here by name though the library takes it. */
const REFUSED = /\\\\[GKX]/;

function compare<P, I, T>(
  schema: { safeParse(json: unknown): { success: boolean; data?: P } },
  { json, results }: Case<T>,
  inputs: readonly I[],
  run: (part: P, input: I) => unknown,
) {
  const parsed = schema.safeParse(json);
  if (results === null || REFUSED.test(JSON.stringify(json))) {
    expect(parsed.success).toBe(false);
    return;
  }
  expect(parsed.success).toBe(true);
  const wanted = inputs.filter((_, i) => results[i] !== null);
  expect(wanted.map((input) => [input, run(parsed.data!, input)])).toEqual(
    inputs.flatMap((input, i) => (results[i] === null ? [] : [[input, results[i]]])),
  );
}

describe('normalizers', () => {
  it.each(titled(fixture.normalizers))('%s', (_, of) => {
    compare(normalizerSchema, of, fixture.texts, (part, text) => {
      const result = part.normalize(text, LIMIT);
      return result === text ? 0 : result;
    });
  });
});

describe('pre-tokenizers', () => {
  it.each(titled(fixture.preTokenizers))('%s', (_, of) => {
    compare(
      preTokenizerSchema,
      { ...of, results: of.results && [null, ...of.results.slice(1)] },
      fixture.texts,
      (part, text) => {
        const pieces = part.split({ text, lead: 1 }, LIMIT).map((piece) => piece.text);
        return pieces.length === 1 && pieces[0] === text ? 0 : pieces;
      },
    );
  });
});

describe('decoders', () => {
  it.each(titled(fixture.decoders))('%s', (_, of) => {
    compare(decoderSchema, of, fixture.tokens, (part, tokens) => part.decode(tokens, LIMIT).join(''));
  });
});

describe('whole tokenizers', () => {
  it.each(fixture.tokenizers.map((of) => [of.name, of] as const))('%s', (_, of) => {
    const parsed = tokenizerJsonSchema.safeParse(of.json);
    if (of.results === null) {
      expect(() => new Pipeline(parsed.data!)).toThrow();
      return;
    }
    const pipeline = new Pipeline(parsed.data!);
    for (const [i, text] of fixture.texts.entries()) {
      const ids = of.results[i];
      if (ids === null) expect(() => pipeline.encode(text), text).toThrow();
      else expect(pipeline.encode(text), text).toEqual(ids);
      if (i < of.special.length && of.special[i] !== null)
        expect(pipeline.process(pipeline.encode(text)), text).toEqual(of.special[i]);
      if (ids === null || ids.length === 0) continue;
      // 0 where it is the text, or the same with and without special tokens.
      const decoded = of.decoded[i] === 0 ? text : of.decoded[i];
      const skipped = of.skipped[i] === 0 ? decoded : of.skipped[i];
      if (decoded !== null) expect(pipeline.decode(ids, false), text).toBe(decoded);
      if (skipped !== null) expect(pipeline.decode(ids, true), text).toBe(skipped);
    }
    const tokenizer = new Tokenizer({ tokenizer: parsed.data!, place: of.name });
    for (const [ids, text] of of.others) {
      if (text === null) continue;
      expect(pipeline.decode(ids, false)).toBe(text);
      const decoder = new StreamDecoder(tokenizer, { skipSpecialTokens: false });
      expect(ids.map((id) => decoder.push(id)).join('') + decoder.flush()).toBe(text);
    }
  });
});
