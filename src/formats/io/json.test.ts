import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { checkJson, duplicateKey } from './json.js';
import { readJson } from './node.js';

let dir: string;
let path: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-json-'));
  path = join(dir, 'c.json');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const schema = z.strictObject({
  r: z.int(),
  nested: z.strictObject({ rope_theta: z.number() }).optional(),
  list: z.array(z.string()).default([]),
});

async function read(content: string | Uint8Array): Promise<unknown> {
  await writeFile(path, content);
  return readJson(path, schema);
}

describe('readJson', () => {
  it('returns the checked value', async () => {
    expect(await read('\ufeff{"r": 8, "nested": {"rope_theta": 1e4}}')).toEqual({
      r: 8,
      nested: { rope_theta: 10000 },
      list: [],
    });
  });

  it.each([
    ['{"r": "8"}', 'key "r": expected number, received string'],
    ['{}', 'key "r": expected number, received undefined'],
    ['{"r": 8, "list": ["a", 1]}', 'key "list.1": expected string, received number'],
    ['{"r": 8, "nested": {"rope_teta": 1}}', 'unknown key "nested.rope_teta", did you mean "rope_theta"?'],
    ['{"r": 8, "lists": []}', 'unknown key "lists", did you mean "list"?'],
    [
      '{"r": 8, "nested": {"rope_theta": 1, "rope_thet": 2}}',
      'unknown key "nested.rope_thet", did you mean "rope_theta"?',
    ],
    ['{"r": 8, "zzzzzzzz": 1}', 'unknown key "zzzzzzzz"'],
    ['[]', 'expected object, received array'],
  ])('%s: %s', async (content, message) => {
    await expect(read(content)).rejects.toThrow(new UserError(`${path}: ${message}`));
  });

  it.each([
    ['{"r": 8,\n "x": [1,]}', 'unexpected "]"'],
    ['{"r": 8,\n  x}', 'line 2, column 3'],
    ['', 'it ends too early'],
    ['{"r": NaN}', 'unexpected "N"'],
  ])('%j is not JSON: %s', async (content, where) => {
    await expect(read(content)).rejects.toThrow(new UserError(`${path} is not valid JSON: ${where}`));
  });

  it('refuses what nests too deep to be walked over', async () => {
    const deep = (depth: number) => `{"r": ${'['.repeat(depth)}${']'.repeat(depth)}}`;
    await expect(read(deep(100_000))).rejects.toEqual(
      new UserError(`${path} nests objects and arrays deeper than 200`),
    );
    await expect(read(deep(199))).rejects.toThrow(/key "r": expected number, received array/);
    expect(await read(`{"r": 8, "list": ["${'['.repeat(300)}\\"${'{'.repeat(300)}"]}`)).toMatchObject({
      r: 8,
    });
  });

  it('refuses what is not UTF-8', async () => {
    await expect(read(new Uint8Array([0x22, 0xff, 0x22]))).rejects.toThrow(
      new UserError(`${path} is not UTF-8 text`),
    );
  });

  it('throws nothing but UserError for any value', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        try {
          checkJson('x', value, schema);
        } catch (error) {
          expect(error).toBeInstanceOf(UserError);
        }
      }),
    );
  });
});

describe('duplicateKey', () => {
  it('finds equal keys of one object only, however they are spelled', () => {
    expect(duplicateKey('{"a": {"b": 1, "c": ["b", "b"]}, "b": "a"}')).toBeUndefined();
    expect(duplicateKey('{"a": [{"b": 1, "c": {"b": 1}, "\\u0062" \n : 1}]}')).toBe('b');
    expect(duplicateKey('{"\\"": 1, "\\\\": 2, "\\"": 3}')).toBe('"');
  });

  it('finds none in what JSON.stringify writes', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.boolean(), (value, indent) => {
        expect(duplicateKey(JSON.stringify(value, null, indent ? 2 : 0))).toBeUndefined();
      }),
    );
  });
});
