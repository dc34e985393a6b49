import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { compileJinja } from './jinja.js';

interface Golden {
  template: string;
  text?: string;
  error?: string;
}
const goldens: { now: string; semantics: Golden[] } = JSON.parse(
  readFileSync(new URL('./fixtures/chat/goldens.json', import.meta.url), 'utf8'),
);

const render = (template: string) =>
  compileJinja(template)({ variables: { messages: [] }, now: new Date(goldens.now) });

function errorOf(template: string): unknown {
  try {
    return render(template);
  } catch (error) {
    return error;
  }
}

/** What Python renders and this refuses: said aloud rather than rendered otherwise. */
const REFUSED: Record<string, RegExp> = {
  "{{ '%s' % 'x' }}": /uses % on a string and a string/,
  '{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7 // 2 }}|{{ 7 / 2 }}|{{ 2 ** 3 }}': /uses % on an integer/,
  "{{ '{}'.format('x') }}": /cannot be rendered: .*not a function/,
  "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}": /tojson with sort_keys/,
  "{{ ['b', 'A', 'c'] | sort | join('') }}|{{ ['a', 'A'] | unique | join('') }}": /filter unique/,
  "{{ [{'r': 1}] | groupby('r') | length }}": /groupby/,
  '{% filter upper %}abc{% endfilter %}': /{% filter %}/,
  '{% for i in range(3) %}{{ i }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}':
    /prints before {% break %}/,
  '{% for i in range(3) %}{% continue %}{% else %}nothing{% endfor %}': /prints before {% break %}/,
};

describe('compileJinja, beside what Python renders', () => {
  it.each(goldens.semantics.map((golden) => [golden.template, golden] as const))('%s', (template, golden) => {
    const refusal = golden.error !== undefined ? /./ : REFUSED[template];
    if (refusal === undefined) expect(render(template)).toBe(golden.text);
    else {
      expect(errorOf(template)).toBeInstanceOf(UserError);
      expect(String(errorOf(template))).toMatch(refusal);
    }
  });

  it('has an answer of Python for everything that it refuses', () => {
    const answered = goldens.semantics.filter((golden) => golden.text !== undefined);
    expect(answered.map((golden) => golden.template)).toEqual(expect.arrayContaining(Object.keys(REFUSED)));
  });
});

describe('compileJinja on bad templates', () => {
  it.each([
    ['{% if x %}', /ends inside a block/],
    ['{{ x', /ends inside|Unexpected end/],
    ['{% include "a" %}', /Unknown statement type: include/],
    ['{{ 1 | nonsense }}', /nonsense/],
    ['{{ range(1000000) | length }}', /range of 1000000/],
    ['{{ range(0, 1, 0) | length }}', /calls range/],
    ["{{ strftime_now('%x') }}", /date with %x/],
    ['{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', /cannot be rendered/],
    [
      `{% for i in range(9999) %}{% for j in range(9999) %}{% set x = i %}{% endfor %}{% endfor %}`,
      /never ends/,
    ],
    [`{{ ${'('.repeat(20_000)}1${')'.repeat(20_000)} }}`, /cannot be read/],
    [`a${' '.repeat(3000)}{{ 1 }}`, /blanks in a row/],
    ['x'.repeat(200_001), /more than the 200000 allowed/],
    ["{{ 'a'.strip(1) }}", /strip arguments/],
    ["{{ raise_exception('no such role') }}", /the template refuses it: no such role/],
    ['{{ undefined_thing.a.b + "x" }}', /adds/],
  ])('%s', (template, message) => {
    const error = errorOf(template);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toMatch(message);
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
        const result = errorOf(pieces.join(' '));
        expect(typeof result === 'string' || result instanceof UserError).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});
