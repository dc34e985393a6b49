/**
 * Each value of tokenizer.json and of the files beside it in turn of each other type: read, or refused by its key, never
 * a TypeError. Nothing is random here.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { UserError } from '../../src/base/errors.js';
import { withDeadline } from '../../src/formats/io/deadline.js';
import { checkJson } from '../../src/formats/io/json.js';
import {
  addedTokensFileSchema,
  specialTokensMapSchema,
  Tokenizer,
  type TokenizerParts,
  tokenizerConfigSchema,
  tokenizerJsonSchema,
} from '../../src/formats/tokenizerCore.js';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const OTHERS: readonly Json[] = [
  ...[null, true, 0, -1, 0.5, 1e300, '', 'x', '\ud800'],
  ...[[], [0], ['x', 'y'], [null], {}, { type: 'x' }, { type: 'Sequence' }],
];

/** How many entries of a list or a vocabulary are tried. */
const MOST_ENTRIES = 4;

/** All places in `json`, and how to put something there. */
function* places(json: Json, path: string[] = []): Iterable<string[]> {
  yield path;
  if (typeof json !== 'object' || json === null) return;
  for (const key of Object.keys(json).slice(0, path.length === 0 ? 100 : MOST_ENTRIES + 10)) {
    if (Object.keys(json).length > 20 && Number(Object.keys(json).indexOf(key)) >= MOST_ENTRIES) return;
    yield* places((json as Record<string, Json>)[key], [...path, key]);
  }
}

function put(json: Json, path: readonly string[], value: Json | undefined): Json {
  if (path.length === 0) return value ?? null;
  const [key, ...rest] = path;
  const copy = Array.isArray(json) ? [...json] : { ...(json as Record<string, Json>) };
  const target = copy as Record<string, Json>;
  if (rest.length === 0 && value === undefined) delete target[key];
  else target[key] = put(target[key], rest, value);
  return copy;
}

/** Tries each place with each other value, under the key `under`; gives how many were refused. */
function tryAll(
  json: Json,
  check: (json: unknown) => void,
  under: readonly string[] = [],
): { read: number; refused: number } {
  const tally = { read: 0, refused: 0 };
  for (const path of places(json)) {
    for (const other of [undefined, ...OTHERS]) {
      const label = `${path.join('.')} = ${JSON.stringify(other)}`;
      try {
        check(put(json, path, other));
        tally.read++;
      } catch (error) {
        expect(error, `${label}: ${error}`).toBeInstanceOf(UserError);
        const { message } = error as UserError;
        const key = /key "([^"]*)/.exec(message)?.[1].split('.')[0];
        if (key !== undefined) expect([...under, ...path, key][0], `${label}: ${message}`).toBe(key);
        tally.refused++;
      }
    }
  }
  return tally;
}

function use(parts: Omit<TokenizerParts, 'place' | 'deadline'>): void {
  const tokenizer = new Tokenizer({ ...parts, place: 'x.json', deadline: withDeadline });
  tokenizer.decode(tokenizer.encode('hello world: 12 naïve 日本\n<s>the</s>'));
}

const fixture = (name: string) =>
  JSON.parse(
    readFileSync(new URL(`../../src/formats/fixtures/tokenizer/${name}.json`, import.meta.url), 'utf8'),
  );

/** A vocabulary of the first tokens, and the merges that are left: the rest says nothing more about types. */
function small(json: {
  model: { vocab: Json; merges?: [string, string][] | string[]; continuing_subword_prefix?: string | null };
}): Json {
  const { vocab, merges } = json.model;
  const prefix = json.model.continuing_subword_prefix ?? '';
  const few = (merges as Json[] | undefined)?.slice(0, 3) ?? [];
  const used = new Set(
    few.flatMap((merge) => {
      const [a, b] = typeof merge === 'string' ? merge.split(' ') : (merge as string[]);
      return [a, b, a + b?.slice(prefix.length)];
    }),
  );
  const kept = Array.isArray(vocab)
    ? vocab.slice(0, 30)
    : Object.fromEntries(Object.entries(vocab as object).filter(([token], i) => i < 30 || used.has(token)));
  return { ...json, model: { ...json.model, vocab: kept, ...(merges && { merges: few }) } } as Json;
}

describe('values of another type', () => {
  const { tokenizers, normalizers, preTokenizers, decoders } = fixture('parts');
  const base = small(tokenizers.find((of: { name: string }) => of.name === 'smollm2').json);
  const read = (json: unknown) => use({ tokenizer: checkJson('x.json', json, tokenizerJsonSchema) });

  it.each<[string, Json]>(
    tokenizers
      .filter((of: { results: unknown }) => of.results !== null)
      .map((of: { name: string; json: Parameters<typeof small>[0] }) => [of.name, small(of.json)]),
  )('tokenizer.json: %s', (_, json) => {
    const { refused } = tryAll(json, read);
    expect(refused).toBeGreaterThan(100);
  });

  it.each<[string, string, { json: Json }[]]>([
    ['normalizers', 'normalizer', normalizers],
    ['pre-tokenizers', 'pre_tokenizer', preTokenizers],
    ['decoders', 'decoder', decoders],
  ])('%s', (_, key, cases) => {
    const kinds = new Map(
      cases.map((of) => [
        JSON.stringify(Object.keys(of.json as object)) + (of.json as { type: string }).type,
        of.json,
      ]),
    );
    for (const json of kinds.values()) {
      const { refused } = tryAll(json, (part) => read({ ...(base as object), [key]: part }), [key]);
      expect(refused).toBeGreaterThan(5);
    }
  });

  it('the files beside it', () => {
    const tokenizer = tokenizerJsonSchema.parse(fixture('bytelevel/tokenizer'));
    const schemas = {
      'tokenizer_config.json': z.object({ config: tokenizerConfigSchema }),
      'special_tokens_map.json': z.object({ specialTokensMap: specialTokensMapSchema }),
      'added_tokens.json': z.object({ addedTokens: addedTokensFileSchema }),
    };
    const keys = {
      'tokenizer_config.json': 'config',
      'special_tokens_map.json': 'specialTokensMap',
      'added_tokens.json': 'addedTokens',
    };
    for (const { files } of fixture('tokenFiles').cases as { files: Record<keyof typeof keys, Json> }[]) {
      for (const [name, json] of Object.entries(files) as [keyof typeof keys, Json][]) {
        const check = (part: unknown) =>
          use({
            tokenizer,
            ...checkJson('x.json', { [keys[name]]: part }, schemas[name] as z.ZodType<object>),
          });
        const { refused } = tryAll(json, check, [keys[name]]);
        expect(refused).toBeGreaterThan(0);
      }
    }
  });
});
