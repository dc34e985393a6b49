import { describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { JsonFloat, jsonTextLike, parseExactJson } from './exactJson.js';

const parse = (text: string) => parseExactJson('f.json', text);

describe('parseExactJson', () => {
  it.each<[string, unknown]>([
    ['9007199254740993', 9007199254740993n],
    ['-9007199254740993', -9007199254740993n],
    ['9007199254740991', 9007199254740991],
    ['-0', 0],
    ['1.0', new JsonFloat(1)],
    ['1e5', new JsonFloat(100000)],
    ['1e-07', 1e-7],
    ['[0.5, 2.0]', [0.5, new JsonFloat(2)]],
    ['"1.0"', '1.0'],
    [
      '{"a": {"n": 3.0, "t": true, "f": false, "z": null}}',
      { a: { n: new JsonFloat(3), t: true, f: false, z: null } },
    ],
    ['{"s": "\\"1\\": 1.0 \\u00e9\\\\", "n": 1.0}', { s: '"1": 1.0 é\\', n: new JsonFloat(1) }],
  ])('%s', (text, value) => {
    expect(parse(text)).toEqual(value);
  });

  it('is exact under the keys that are asked for only', () => {
    const text = '{"n": 1.0, "2": 3, "a": {"x": [1.0, {"2": 9007199254740993}], "a": 2.0}, "b": {"y": 1e5}}';
    const parsed = parseExactJson('f.json', text, ['a']) as Record<string, unknown>;
    expect(parsed).toEqual({
      n: 1,
      2: 3,
      a: { x: [new JsonFloat(1), new Map([['2', 9007199254740993n]])], a: new JsonFloat(2) },
      b: { y: 100000 },
    });
    expect(parseExactJson('f.json', text, ['c'])).toEqual(JSON.parse(text));
  });

  it('keeps the order of keys that are numbers, and a key called __proto__', () => {
    const value = parse('{"b": 1, "10": 2, "9": 3}') as Map<string, unknown>;
    expect([...value]).toEqual([
      ['b', 1],
      ['10', 2],
      ['9', 3],
    ]);
    expect(parse('{"__proto__": 1}')).toEqual(new Map([['__proto__', 1]]));
  });

  it.each(['{"a": 1.0', '[1.0,]', '01', '1.', `${'['.repeat(300)}1.0${']'.repeat(300)}`])(
    'refuses %s',
    (text) => {
      expect(() => parse(text)).toThrow(UserError);
    },
  );
});

it('jsonTextLike writes floats as they were, and else what JSON.stringify does', () => {
  const original = '{"a": 2.0, "b": [1.0, 2, {"c": 1e4}], "0": 3.0, "d": 5.0, "e": [], "f": {}, "g": 0.5}';
  const changed = { ...JSON.parse(original), d: 6, h: 'x\n' };
  const text = jsonTextLike(changed, original);
  expect(JSON.parse(text)).toEqual(changed);
  expect(text.replaceAll(/\s+/g, ' ')).toBe(
    '{ "0": 3.0, "a": 2.0, "b": [ 1.0, 2, { "c": 10000.0 } ], "d": 6, "e": [], "f": {}, "g": 0.5, "h": "x\\n" }',
  );
  expect(jsonTextLike(changed, '{}')).toBe(JSON.stringify(changed, null, 2));
});
