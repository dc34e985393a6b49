import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { layerNumber, type NameTest, nameEnd, savedModule } from '../peftPatterns.js';
import { PythonPattern } from './index.js';

// What Python's own `re` made of these patterns (scripts/parity/make_regex_fixtures.py).

type Spans = ([number, number] | null)[] | null;
interface Result {
  error?: true;
  full?: string;
  match?: Spans[];
  search?: Spans[];
  key?: string;
  saved?: string;
  layer?: (string | null)[];
}
const path = fileURLToPath(new URL('../fixtures/python-regex.json', import.meta.url));
const fixture: {
  names: string[];
  texts: string[];
  chosen: Record<string, Result>;
  random: Record<string, Result>;
} = JSON.parse(readFileSync(path, 'utf8'));

/** Refused here though Python takes it. */
const REFUSED = /\\N\{/;

const digits = (test: NameTest, names: readonly string[]) => names.map((n) => Number(test(n))).join('');

function compiled<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    return undefined;
  }
}

function found(pattern: PythonPattern, names: readonly string[]): Result {
  const spans = (found: ReturnType<PythonPattern['match']>): Spans =>
    found?.map((span) => (span ? [...span] : null)) ?? null;
  return {
    full: digits((name) => pattern.fullmatch(name), names),
    match: names.map((name) => spans(pattern.match(name))),
    search: names.map((name) => spans(pattern.search(name))),
  };
}

/** In place of text, what a pattern does to `names`. */
function resultOf(source: string, names: readonly string[]): Result {
  const pattern = compiled(() => new PythonPattern('pattern', source));
  return pattern ? found(pattern, names) : { error: true };
}

const chosen = Object.entries(fixture.chosen).filter(([source]) => !REFUSED.test(source));

describe("Python's regular expressions", () => {
  it.each(chosen)('%s', (source, { key, saved, layer, ...own }) => {
    expect(resultOf(source, fixture.names)).toEqual(own);
    const inPlace = <T>(what: (name: string, pattern: string) => T) =>
      compiled(() => what('pattern', source));
    const asKey = inPlace(nameEnd);
    expect(asKey && digits(asKey, fixture.names)).toBe(key);
    const asSaved = inPlace(savedModule);
    expect(asSaved && digits(asSaved, fixture.names)).toBe(saved);
    const asLayer = inPlace((name, pattern) => layerNumber(name, [pattern]));
    expect(asLayer && fixture.names.map((name) => asLayer(name) ?? null)).toEqual(
      layer?.map((number) => (number === null ? null : Number(number))),
    );
  });

  it('400 random patterns', () => {
    const differ = Object.entries(fixture.random).filter(
      ([source, expected]) => JSON.stringify(resultOf(source, fixture.texts)) !== JSON.stringify(expected),
    );
    expect(differ.map(([source]) => source)).toEqual([]);
  });

  it('refuses characters by name, which Python knows and this does not', () => {
    expect(() => new PythonPattern('target_modules', '\\N{LATIN SMALL LETTER A}')).toThrow(
      new UserError(
        'target_modules "\\\\N{LATIN SMALL LETTER A}" is not a regular expression of Python\'s: \\N{…}, a character by ' +
          'its name, is not implemented: write it itself, or as \\u….',
      ),
    );
  });

  it.each(['(a+)+b', '(a|a)*b', '(?:.*a){20}b', '(a*)*\\1b', '(?:(?:){1000000}){1000}b', '(a?){40}a{40}b'])(
    '%s comes to an end',
    (source) => {
      const pattern = new PythonPattern('rank_pattern', source);
      const text = 'a'.repeat(100);
      let refusal: unknown;
      try {
        expect(pattern.fullmatch(text)).toBe(false);
      } catch (error) {
        refusal = error;
      }
      if (refusal !== undefined) {
        expect(refusal).toBeInstanceOf(UserError);
        expect(String(refusal)).toContain('it backtracks too much');
      }
    },
  );

  it('refuses patterns that are too long or nest too deep', () => {
    expect(() => new PythonPattern('p', 'a'.repeat(100_000))).toThrow('longer than 65536 characters');
    expect(() => new PythonPattern('p', `${'('.repeat(300)}a${')'.repeat(300)}`)).toThrow(
      'it nests deeper than 200',
    );
  });
});
