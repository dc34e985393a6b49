import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { encodeF32 } from './float16.js';
import {
  readSafetensorsHeader,
  readTensorBytes,
  readTensorF32,
  type TensorEntry,
  tensorNamed,
  writeSafetensors,
} from './safetensors.js';

let dir: string;
let path: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-st-'));
  path = join(dir, 'x.safetensors');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

function file(header: string | object, dataBytes = 0, declared?: bigint): Uint8Array {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = Buffer.alloc(8 + json.length + dataBytes);
  bytes.writeBigUInt64LE(declared ?? BigInt(json.length), 0);
  json.copy(bytes, 8);
  return bytes;
}

async function read(bytes: Uint8Array) {
  await writeFile(path, bytes);
  return readSafetensorsHeader(path);
}

const t = (dtype: string, shape: number[], begin: number, end: number) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

describe('readSafetensorsHeader', () => {
  it('gives places in the file', async () => {
    const header = { b: t('F16', [2, 2], 4, 12), a: t('F32', [], 0, 4), e: t('I64', [0, 3], 4, 4) };
    const { tensors, metadata } = await read(file({ ...header, __metadata__: { k: 'v' } }, 12));
    const start = (await stat(path)).size - 12;
    expect(metadata).toEqual({ k: 'v' });
    expect(tensors.get('b')).toEqual({
      name: 'b',
      dtype: 'F16',
      shape: [2, 2],
      file: path,
      offset: start + 4,
      length: 8,
    });
    expect([...tensors.keys()]).toEqual(['b', 'a', 'e']);
    expect(() => tensorNamed(tensors, 'A', 'here')).toThrow(
      new UserError('here has no tensor "A"; the nearest is "a"'),
    );
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['an empty file', new Uint8Array(0), /has only 0 bytes/],
    ['a header longer than the file', file('{}', 0, 3n), /cut short .* 3 bytes, the file has 10/],
    ['an absurd header length', file('{}', 0, 2n ** 64n - 1n), /cut short or no safetensors file/],
    ['no JSON', file('{"a"'), /not valid JSON/],
    ['no object', file('[]'), /expected (record|object)/],
    ['no UTF-8', Buffer.concat([file('', 0, 2n), Buffer.from([0xff, 0xfe])]), /is not UTF-8/],
    ['an unknown dtype', file({ a: t('F31', [1], 0, 4) }, 4), /tensor "a".*key "dtype"/],
    ['a negative size', file({ a: t('F32', [-1], 0, 4) }, 4), /key "shape.0"/],
    ['a fractional size', file({ a: t('F32', [0.5], 0, 2) }, 2), /key "shape.0"/],
    ['a negative offset', file({ a: t('F32', [1], -4, 0) }, 4), /key "data_offsets.0"/],
    ['an unknown field', file({ a: { ...t('F32', [1], 0, 4), x: 1 } }, 4), /unknown key "x"/],
    [
      'a size that does not follow from the shape',
      file({ a: t('F32', [2], 0, 4) }, 4),
      /needs 8 bytes and has 4/,
    ],
    ['end before begin', file({ a: t('F32', [1], 4, 0) }, 4), /needs 4 bytes and has -4/],
    [
      'a product beyond all numbers',
      file({ a: t('F32', [2 ** 52, 2 ** 52, 2 ** 52], 0, 4) }, 4),
      /needs .* bytes/,
    ],
    ['an offset outside the file', file({ a: t('F32', [2], 0, 8) }, 4), /cut short: .* 8 bytes .* has 4/],
    [
      'an overlap',
      file({ a: t('F32', [2], 0, 8), b: t('F32', [1], 4, 8) }, 8),
      /"b" overlaps the tensor before/,
    ],
    ['one range twice', file({ a: t('F32', [1], 0, 4), b: t('F32', [1], 0, 4) }, 4), /overlaps/],
    ['a gap', file({ a: t('F32', [1], 0, 4), b: t('F32', [1], 8, 12) }, 12), /"b" leaves a gap/],
    ['a gap at the start', file({ a: t('F32', [1], 4, 8) }, 8), /"a" leaves a gap/],
    ['bytes after the last', file({ a: t('F32', [1], 0, 4) }, 5), /belong to no tensor/],
    [
      'a duplicate',
      file(`{"a":${JSON.stringify(t('F32', [1], 0, 4))},"a":${JSON.stringify(t('F32', [1], 0, 4))}}`, 4),
      /the key "a" twice/,
    ],
    [
      'a duplicate field',
      file('{"a":{"dtype":"U8","dtype":"I8","shape":[],"data_offsets":[0,1]}}', 1),
      /twice/,
    ],
    [
      '__proto__',
      file(`{"__proto__":${JSON.stringify(t('F32', [1], 0, 4))}}`, 4),
      /forbidden name __proto__/,
    ],
    ['metadata that is not text', file({ __metadata__: { a: 1 } }), /__metadata__: key "a": expected string/],
  ])('refuses %s', async (_, bytes, message) => {
    const error = await read(bytes).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toMatch(message);
    expect(String(error)).toContain(path);
  });

  it('throws nothing but UserError for mutated files', async () => {
    const good = file({ __metadata__: { f: 'pt' }, a: t('F32', [2], 0, 8), b: t('BF16', [3], 8, 14) }, 14);
    let accepted = 0;
    const mutation = fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255), cut: fc.nat(good.length) });
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (mutations) => {
        let bytes = new Uint8Array(good); // a Buffer's slice would share its memory
        for (const m of mutations) {
          bytes[m.at % bytes.length] = m.byte;
          if (m.cut % 4 === 0) bytes = bytes.slice(0, Math.max(1, m.cut));
        }
        try {
          const { tensors } = await read(bytes);
          for (const info of tensors.values()) expect((await readTensorBytes(info)).length).toBe(info.length);
          accepted++;
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
        }
      }),
      { numRuns: 400 },
    );
    expect(accepted).toBeGreaterThan(0); // a changed data byte is no fault
  });

  it('says so when there is no file', async () => {
    await expect(readSafetensorsHeader(join(dir, 'none'))).rejects.toThrow(
      /^cannot read .*none: there is no/,
    );
  });
});

/** Refused on reading and on writing, whatever is in them. */
const FORBIDDEN_NAMES = new Set(['__metadata__', '__proto__', 'constructor', 'prototype']);

describe('writeSafetensors', () => {
  const f32 = Float32Array.of(0, 1, -1.5, 65504, 1e-7, -3e4);

  it.each(['F32', 'F16', 'BF16'] as const)('round-trips %s', async (dtype) => {
    const stored = ({ F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const)[dtype];
    const bytes = encodeF32(f32, stored);
    await writeSafetensors(path, [{ name: 'w', dtype, shape: [2, 3], data: () => bytes }]);
    const { tensors } = await readSafetensorsHeader(path);
    const info = tensorNamed(tensors, 'w', path);
    expect(await readTensorBytes(info)).toEqual(new Uint8Array(bytes));
    const values = await readTensorF32(info);
    expect(encodeF32(values, stored)).toEqual(bytes);
    expect(values[2]).toBe(-1.5);
  });

  it('writes no NaN and no infinity, and leaves what was there', async () => {
    const entry = (value: number) => ({
      name: 'w',
      dtype: 'F32' as const,
      shape: [2],
      data: () => encodeF32(Float32Array.of(value, 1), 'float32'),
    });
    await writeSafetensors(path, [entry(2)]);
    const before = await readFile(path);
    for (const value of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      await expect(writeSafetensors(path, [entry(value)])).rejects.toThrow(
        `cannot write ${path}: tensor "w": 1 of its 2 values is NaN or infinite`,
      );
    }
    expect(await readFile(path)).toEqual(before);
  });

  it('reads back whatever it writes, aligned, whatever the names', async () => {
    const arbitrary = fc.uniqueArray(
      fc.record({
        name: fc.string({ unit: 'grapheme' }).filter((n) => !FORBIDDEN_NAMES.has(n)),
        dtype: fc.constantFrom('F32' as const, 'BF16' as const, 'I64' as const, 'U8' as const),
        shape: fc.array(fc.nat(4), { maxLength: 3 }),
        fill: fc.nat(0x7b), // No byte of an exponent that is all ones.
      }),
      { selector: (e) => e.name, maxLength: 6 },
    );
    const width: Record<string, number> = { F32: 4, BF16: 2, I64: 8, U8: 1 };
    await fc.assert(
      fc.asyncProperty(arbitrary, async (list) => {
        const entries: TensorEntry[] = list.map((e) => ({
          ...e,
          data: async () => new Uint8Array(e.shape.reduce((a, b) => a * b, 1) * width[e.dtype]).fill(e.fill),
        }));
        await writeSafetensors(path, entries, { format: 'pt' });
        const { tensors, metadata } = await readSafetensorsHeader(path);
        expect(metadata).toEqual({ format: 'pt' });
        expect(tensors.size).toBe(list.length);
        for (const e of entries) {
          const info = tensorNamed(tensors, e.name, path);
          expect([info.dtype, info.shape]).toEqual([e.dtype, e.shape]);
          expect(info.offset % width[info.dtype]).toBe(0);
          expect(await readTensorBytes(info)).toEqual(await e.data());
        }
      }),
      { numRuns: 60 },
    );
  });

  it('refuses a name twice, and leaves nothing behind', async () => {
    const out = join(dir, 'refused');
    const entry: TensorEntry = { name: 'a', dtype: 'U8', shape: [1], data: () => new Uint8Array(1) };
    await expect(writeSafetensors(out, [entry, entry])).rejects.toThrow(UserError);
    await expect(writeSafetensors(out, [{ ...entry, data: () => new Uint8Array(2) }])).rejects.toThrow(
      /2 bytes given/,
    );
    expect((await readdir(dir)).filter((name) => name.includes('refused'))).toEqual([]);
  });

  it('refuses to read integers as float32', async () => {
    await writeSafetensors(path, [{ name: 'ids', dtype: 'U8', shape: [1], data: () => new Uint8Array(1) }]);
    const { tensors } = await readSafetensorsHeader(path);
    await expect(readTensorF32(tensorNamed(tensors, 'ids', path))).rejects.toThrow(
      /has dtype U8, expected F32/,
    );
    expect((await readFile(path)).length % 8).toBe(1);
  });
});
