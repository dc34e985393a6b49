import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { parseExactJson } from '../io/exactJson.js';
import { compileJinja } from './template.js';

interface Golden {
  template: string;
  text?: string;
  error?: string;
}
interface Row {
  template: string;
  texts: (string | null)[];
}
const goldens: {
  now: string;
  semantics: Golden[];
  values: string[];
  matrix: Row[];
  operands: string[];
  pairs: Row[];
} = JSON.parse(readFileSync(new URL('../fixtures/chat/jinja.json', import.meta.url), 'utf8'));

const messages = [{ role: 'user', content: 'Hi' }];
const render = (template: string, variables: Record<string, unknown> = {}) =>
  compileJinja(template)({ variables: { messages, tools: null, ...variables }, now: new Date(goldens.now) });

function resultOf(template: string, variables: Record<string, unknown> = {}): unknown {
  try {
    return render(template, variables);
  } catch (error) {
    return error;
  }
}

/** What Python answers and this refuses, by a sentence that names it: nothing is rendered otherwise. */
const REFUSED = /not supported|prints a |sums strings|lone|unlikely width/;

/** What is wrong with a result beside Python's, if anything. */
function wrong(result: unknown, text: string | null | undefined): string | undefined {
  if (result === text) return undefined;
  if (!(result instanceof UserError)) return `${JSON.stringify(result)} for ${JSON.stringify(text ?? null)}`;
  if (text === undefined || text === null || REFUSED.test(result.message)) return undefined;
  return `${result.message} for ${JSON.stringify(text)}`;
}

const parsed = (json: string) => (json === 'Infinity' ? Infinity : parseExactJson('value', json));

describe('compileJinja beside what Python renders', () => {
  it.each(goldens.semantics.map((golden) => [golden.template, golden] as const))('%s', (template, golden) => {
    expect(wrong(resultOf(template), golden.text)).toBeUndefined();
  });

  it.each(goldens.matrix.map((row) => [row.template, row] as const))('%s of every value', (template, row) => {
    const found = goldens.values.map((json, i) => {
      const fault = wrong(resultOf(template, { x: parsed(json) }), row.texts[i]);
      return fault && `${json}: ${fault}`;
    });
    expect(found.filter(Boolean)).toEqual([]);
  });

  it.each(goldens.pairs.map((row) => [row.template, row] as const))('%s of every pair', (template, row) => {
    const pairs = goldens.operands.flatMap((x) => goldens.operands.map((y) => [x, y]));
    const found = pairs.map(([x, y], i) => {
      const fault = wrong(resultOf(template, { x: parsed(x), y: parsed(y) }), row.texts[i]);
      return fault && `${x}, ${y}: ${fault}`;
    });
    expect(found.filter(Boolean)).toEqual([]);
  });
});

function errorOf(template: string, variables: Record<string, unknown> = {}): UserError {
  const result = resultOf(template, variables);
  expect(result).toBeInstanceOf(UserError);
  return result as UserError;
}

describe('compileJinja on bad templates', () => {
  it.each([
    ['{% if x %}', /line 1: it ends before {% endif %}/],
    ['\n\n{{ x', /line 3: }} is missing/],
    ['{% include "a" %}', /{% include %} is not supported/],
    ['{{ 1 | nonsense }}', /the filter nonsense/],
    ['{{ 1 is nonsense }}', /the test nonsense/],
    ['{{ range(1000000) | length }}', /range of 1000000/],
    ['{{ range(0, 1, 0) | length }}', /calls range/],
    ["{{ strftime_now('%Q') }}", /date with %Q/],
    ['{{ "a".encode() }}', /encode of a string, which is not supported/],
    ['{{ [].append(1) }}', /append of a list, which is not supported/],
    [`{{ ${'('.repeat(20_000)}1${')'.repeat(20_000)} }}`, /nests too many brackets/],
    [`${'{% if x %}'.repeat(1_000)}`, /nests too deeply/],
    [`{{ ${'not '.repeat(10_000)}x }}`, /nests too deeply/],
    [`{{ 1${'+1'.repeat(10_000)} }}`, /an expression is too long/],
    [`{{ x${'.a'.repeat(10_000)} }}`, /an expression is too long/],
    [`{{ x${'|e'.repeat(10_000)} }}`, /an expression is too long/],
    ['x'.repeat(200_001), /more than the 200000 allowed/],
    ["{{ 'a'.strip(1) }}", /gives strip an integer for a string/],
    ["{{ raise_exception('no such role') }}", /the template refuses it: no such role/],
    ['{{ undefined_thing.a.b + "x" }}', /'undefined_thing' is undefined/],
  ])('%s', (template, message) => {
    expect(errorOf(template).message).toMatch(message);
  });

  it('throws nothing but UserError and ends, whatever the text', () => {
    const piece = fc.constantFrom(
      ...'{% {%- %} -%} {{ }} {# #} if for in endfor endif else set = x messages [ ] ( ) . | trim "a" \' ~ + - 1 not'.split(
        ' ',
      ),
      ' ',
      '\n',
      '\\',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 25 }), (pieces) => {
        const result = resultOf(pieces.join(' '));
        expect(typeof result === 'string' || result instanceof UserError).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

/** Doubles ns.x that often by an expression over it. */
const doubling = (start: string, times: number, expression: string, end = '') =>
  `{% set ns = namespace(x=${start}) %}{% for i in range(${times}) %}{% set ns.x = ${expression} %}{% endfor %}${end}`;

describe('compileJinja ends', () => {
  it.each<[string, string]>([
    ['text doubled by ~', doubling("'ab'", 60, 'ns.x ~ ns.x')],
    ['text doubled by +', doubling("'ab'", 60, 'ns.x + ns.x', '{{ ns.x | length }}')],
    ['text multiplied', "{{ 'ab' * 10 ** 12 }}"],
    ['a list multiplied', '{{ ([[]] * 10 ** 10) | length }}'],
    ['a list doubled', doubling('[1]', 60, 'ns.x + ns.x')],
    ['lists of the same list', doubling('[1]', 60, '[ns.x, ns.x]', '{{ ns.x }}')],
    ['the same as JSON', doubling('[1]', 60, '[ns.x, ns.x]', '{{ ns.x | tojson }}')],
    ['the same compared', doubling('[1]', 60, '[ns.x, ns.x]', '{{ ns.x == [ns.x[0], ns.x[1]] }}')],
    ['a list nested without end', doubling('[1]', 5_000, '[ns.x]', '{{ ns.x | tojson }}')],
    [
      'a dict of doubled text as JSON',
      doubling("'ab'", 22, 'ns.x ~ ns.x', '{{ [ns.x, ns.x, ns.x, ns.x] | tojson }}'),
    ],
    ['replace that grows', doubling("'a'", 60, "ns.x | replace('a', 'aaaa')")],
    ['replace of nothing', doubling("'a'", 60, "ns.x.replace('', 'bb')")],
    ['join that grows', doubling("'a'", 60, '[ns.x, ns.x] | join(ns.x)')],
    ['split in a loop', doubling("'a,' * 100000", 100_000, "ns.x.split(',') | join(',')")],
    ['slices in a loop', doubling("'ab' * 4000000", 100_000, 'ns.x[1:] ~ i')],
    ['indent that grows', doubling("'a\\nb'", 60, 'ns.x | indent(ns.x | length)')],
    ['centring to a width', "{{ 'a'.center(10 ** 12) }}{{ 'a'.zfill(10 ** 12) }}"],
    ['a format to a width', "{{ '%1000000000d' % 1 }}"],
    ['a format that grows', doubling("'ab'", 60, "'%s%s' % (ns.x, ns.x)")],
    ['indented JSON', '{{ [[[[1]]]] | tojson(indent=1000000000) }}'],
    ['a long range', '{% for i in range(10 ** 9) %}{% endfor %}'],
    [
      'loops in loops',
      '{% for i in range(99999) %}{% for j in range(99999) %}{% set x = i %}{% endfor %}{% endfor %}',
    ],
    [
      'an empty loop in loops',
      '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}',
    ],
    ['a macro that calls itself', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'],
    [
      'a macro that calls itself twice',
      '{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(150) }}',
    ],
    ['a loop that recurs for ever', '{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}'],
    ['numbers without end', doubling('3', 100, 'ns.x * ns.x', '{{ ns.x }}')],
    ['a tower of powers', '{{ 9 ** 9 ** 9 ** 9 ** 9 ** 9 }}'],
    [
      'long text as a key',
      doubling("'ab'", 21, 'ns.x ~ ns.x', '{% for i in range(99999) %}{{ {}[ns.x ~ i] }}{% endfor %}'),
    ],
    [
      'long text compared',
      doubling(
        "'ab'",
        21,
        'ns.x ~ ns.x',
        "{% for i in range(99999) %}{{ ns.x ~ 'a' == ns.x ~ 'b' }}{% endfor %}",
      ),
    ],
    [
      'long text looked through',
      doubling("'ab'", 21, 'ns.x ~ ns.x', "{% for i in range(99999) %}{{ 'c' in ns.x ~ i }}{% endfor %}"),
    ],
    ['sorting in a loop', '{% for i in range(99999) %}{% set x = range(50000) | sort %}{% endfor %}'],
    [
      'lists of a range in a loop',
      '{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = ns.x + [range(99999) | list] %}{% endfor %}',
    ],
    ['text printed for ever', "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{{ x }}{% endfor %}"],
  ])('%s', (_, template) => {
    const { message } = errorOf(template);
    expect(message).toMatch(
      /too many steps|too much text|nests too deeply|too large|range of|unlikely width/,
    );
  });

  it('renders long conversations all the same', () => {
    const turns = Array.from({ length: 4_000 }, (_, i) => ({
      role: 'user',
      content: `${i} ${'word '.repeat(100)}`,
    }));
    const template =
      "{% set ns = namespace(all='') %}{% for m in messages %}{% set ns.all = ns.all ~ m.content | trim %}{% endfor %}{{ ns.all }}";
    const text = render(template, { messages: turns });
    expect(text).toBe(turns.map(({ content }) => content.trim()).join(''));
  });
});
