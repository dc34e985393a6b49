import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { readJson } from './io/node.js';
import { Tokenizer, tokenizerJsonSchema } from './tokenizerCore.js';

// What the Rust library makes of single texts and pairs, whole and cut (scripts/parity/make_pair_fixtures.py).
const encoded = z.tuple([z.array(z.int()), z.array(z.int())]);
const fixture = await readJson(
  new URL('./fixtures/tokenizer/pairs.json', import.meta.url).pathname,
  z.array(
    z.object({
      json: z.looseObject({ post_processor: z.unknown() }),
      results: z.array(
        z.tuple([z.tuple([z.string(), z.string().nullable()]), z.int().nullable(), encoded.nullable()]),
      ),
    }),
  ),
);

describe.each(fixture.map((of) => [JSON.stringify(of.json.post_processor), of] as const))(
  'whole inputs by %s',
  (_, { json, results }) => {
    const tokenizer = new Tokenizer({ tokenizer: tokenizerJsonSchema.parse(json), place: 't' });
    it('have the ids and types of the Rust library', () => {
      for (const [[a, b], maxLength, expected] of results) {
        const options = maxLength === null ? {} : { maxLength };
        const encode = () =>
          b === null ? tokenizer.encodeWhole(a, options) : tokenizer.encodePair(a, b, options);
        if (expected === null) expect(encode).toThrow(UserError);
        else expect([a, b, maxLength, encode()]).toEqual([a, b, maxLength, asTyped(expected)]);
      }
    });
  },
);

function asTyped([ids, typeIds]: z.output<typeof encoded>) {
  return { ids, typeIds };
}

it('a length that leaves no room is refused', () => {
  const bert = fixture.find(({ json }) => JSON.stringify(json.post_processor).includes('BertProcessing'))!;
  const tokenizer = new Tokenizer({ tokenizer: tokenizerJsonSchema.parse(bert.json), place: 't' });
  expect(() => tokenizer.encodePair('hello', 'world', { maxLength: 3 })).toThrow(
    't: a maximum length of 3 leaves no room beside the 3 tokens that stand around a pair',
  );
  expect(() => tokenizer.encodeWhole('hello', { maxLength: 2 })).toThrow('stand around a text');
});
