/**
 * Each part of tokenizer.json alone, and whole tokenizers, against what the Rust library makes of the same
 * (scripts/parity/make_tokenizer_fixtures.py). With LOWRANK_PARITY=live also 150 tokenizers put together at random, and
 * 500 texts; LOWRANK_SEED chooses them.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { messageOf } from '../../src/base/errors.js';
import { StreamDecoder } from '../../src/formats/streamDecoder.js';
import { AmbiguousTokens } from '../../src/formats/tokenizer/addedTokens.js';
import { decoderSchema } from '../../src/formats/tokenizer/decoders.js';
import { normalizerSchema } from '../../src/formats/tokenizer/normalizers.js';
import { Pipeline, tokenizerJsonSchema } from '../../src/formats/tokenizer/pipeline.js';
import { preTokenizerSchema } from '../../src/formats/tokenizer/preTokenizers.js';
import { Tokenizer } from '../../src/formats/tokenizerCore.js';

/** Results by text; null where the library ends with an error, 0 where the text stays as it was. */
interface Case<T> {
  json: object;
  /** Null where the library refuses the part. */
  results: (T | null | 0)[] | null;
}
interface Whole {
  name: string;
  json: object;
  /** 'panic' where the library itself breaks, which is no answer. */
  results: (number[] | null | 'panic')[] | null;
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

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string): Fixture => JSON.parse(readFileSync(path, 'utf8'));

compareAll('the fixture', read(join(root, 'src/formats/fixtures/tokenizer/parts.json')));
compareCases();
if (process.env.LOWRANK_PARITY === 'live') {
  const seed = process.env.LOWRANK_SEED ?? '1';
  const folder = mkdtempSync(join(tmpdir(), 'tokenizers-'));
  const path = join(folder, 'parts.json');
  execFileSync('.venv/bin/python', ['scripts/parity/make_tokenizer_fixtures.py', path, seed], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
    maxBuffer: 1 << 28,
  });
  compareAll(`live, LOWRANK_SEED=${seed}`, read(path));
  rmSync(folder, { recursive: true });
}

function compareAll(title: string, fixture: Fixture) {
  describe(title, () => {
    it.each(titled(fixture.normalizers))('normalizer %s', (_, of) => {
      compare(normalizerSchema, of, fixture.texts, (part, text) => {
        const result = part.normalize(text, LIMIT);
        return result === text ? 0 : result;
      });
    });

    it.each(titled(fixture.preTokenizers))('pre-tokenizer %s', (_, of) => {
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

    it.each(titled(fixture.decoders))('decoder %s', (_, of) => {
      compare(decoderSchema, of, fixture.tokens, (part, tokens) => part.decode(tokens, LIMIT).join(''));
    });

    it.each(fixture.tokenizers.map((of) => [of.name, of] as const))('tokenizer: %s', (_, of) => {
      compareWhole(fixture, of);
    });
  });
}

function compareWhole(fixture: Fixture, of: Whole) {
  const parsed = tokenizerJsonSchema.safeParse(of.json);
  if (REFUSED.test(JSON.stringify(of.json))) {
    expect(messageOf(parsed.error)).toMatch(/\\[GKX] is not supported/);
    return;
  }
  const make = () => new Pipeline(parsed.data!);
  if (of.results === null) {
    expect(make).toThrow();
    return;
  }
  let pipeline: Pipeline;
  try {
    pipeline = make();
  } catch (error) {
    // Two added tokens that the normalizer makes one: the library finds one of them.
    expect(error).toBeInstanceOf(AmbiguousTokens);
    return;
  }
  const tokenizer = new Tokenizer({ tokenizer: parsed.data!, place: of.name });
  const streamed = (ids: readonly number[]) => {
    const decoder = new StreamDecoder(tokenizer, { skipSpecialTokens: false });
    return ids.map((id) => decoder.push(id)).join('') + decoder.flush();
  };
  for (const [i, text] of fixture.texts.entries()) {
    const ids = of.results[i];
    if (ids === 'panic') continue;
    if (ids === null) {
      expect(() => pipeline.encode(text), text).toThrow();
      continue;
    }
    expect(pipeline.encode(text), text).toEqual(ids);
    if (i < of.special.length && of.special[i] !== null)
      expect(pipeline.process([pipeline.encode(text)]).ids, text).toEqual(of.special[i]);
    if (ids.length === 0) continue;
    // 0 where it is the text, or the same with and without special tokens.
    const decoded = of.decoded[i] === 0 ? text : of.decoded[i];
    const skipped = of.skipped[i] === 0 ? decoded : of.skipped[i];
    if (decoded !== null) expect(pipeline.decode(ids, false), text).toBe(decoded);
    if (decoded !== null) expect(streamed(ids), text).toBe(decoded);
    if (skipped !== null) expect(pipeline.decode(ids, true), text).toBe(skipped);
  }
  for (const [ids, text] of of.others) {
    if (text === null) continue;
    expect(pipeline.decode(ids, false)).toBe(text);
    expect(streamed(ids)).toBe(text);
  }
}

/** Parts and texts that once came out wrong, one by one. */
function compareCases() {
  type Row = { part: string; json: object; text: string; pieces: string[]; result: string; ids: number[] };
  const path = join(root, 'src/formats/fixtures/tokenizer/cases.jsonl');
  const rows = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line): Row => JSON.parse(line));
  it.each(rows.map((row) => [row.part, row.text, row] as const))('%s: %j', (_, text, row) => {
    if (row.part === 'normalizer')
      expect(normalizerSchema.parse(row.json).normalize(text, LIMIT)).toBe(row.result);
    else if (row.part === 'pre_tokenizer')
      expect(
        preTokenizerSchema
          .parse(row.json)
          .split({ text, lead: 1 }, LIMIT)
          .map((piece) => piece.text),
      ).toEqual(row.pieces);
    else expect(new Pipeline(tokenizerJsonSchema.parse(row.json)).encode(text)).toEqual(row.ids);
  });
}
