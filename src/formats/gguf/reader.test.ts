import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { readGguf, readGgufTensor } from './reader.js';

const FIXTURE = fileURLToPath(new URL('./fixtures/llama-spm.gguf', import.meta.url));

let dir: string;
let path: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-gguf-'));
  path = join(dir, 'x.gguf');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const u32 = (value: number) => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(value);
  return b;
};
const u64 = (value: bigint | number) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(value));
  return b;
};
const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const key = (name: string, type: number, ...value: Uint8Array[]) =>
  Buffer.concat([text(name), u32(type), ...value]);
/** `dims` innermost first, as the format has them. */
const tensor = (name: string, dims: (number | bigint)[], type: number, offset: number | bigint) =>
  Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset)]);

interface Parts {
  magic?: string;
  version?: number;
  keys?: Uint8Array[];
  tensors?: Uint8Array[];
  tensorCount?: bigint;
  keyCount?: bigint;
  dataBytes?: number;
  alignment?: number;
}

function file(p: Parts = {}): Buffer {
  const { keys = [], tensors = [], alignment = 32 } = p;
  const header = Buffer.concat([
    Buffer.from(p.magic ?? 'GGUF'),
    u32(p.version ?? 3),
    u64(p.tensorCount ?? tensors.length),
    u64(p.keyCount ?? keys.length),
    ...keys,
    ...tensors,
  ]);
  const padding = Buffer.alloc((alignment - (header.length % alignment)) % alignment);
  return Buffer.concat([header, padding, Buffer.alloc(p.dataBytes ?? 0, 1)]);
}

async function read(bytes: Uint8Array) {
  await writeFile(path, bytes);
  return readGguf(path);
}

describe('readGguf', () => {
  it('reads every value type, and places tensors', async () => {
    const f64 = Buffer.alloc(8);
    f64.writeDoubleLE(-0.1);
    const f32 = Buffer.alloc(4);
    f32.writeFloatLE(0.5);
    const gguf = await read(
      file({
        version: 2,
        keys: [
          key('u8', 0, Buffer.from([200])),
          key('i8', 1, Buffer.from([200])),
          key('u16', 2, Buffer.from([0xfe, 0xff])),
          key('i16', 3, Buffer.from([0xfe, 0xff])),
          key('u32', 4, u32(0xfffffffe)),
          key('i32', 5, u32(0xfffffffe)),
          key('f32', 6, f32),
          key('bool', 7, Buffer.from([1])),
          key('string', 8, text('\ufeffé')),
          key('u64', 10, u64(7)),
          key('i64', 11, u64(2n ** 64n - 1n)),
          key('huge', 10, u64(2n ** 64n - 1n)),
          key('f64', 12, f64),
          key('strings', 9, u32(8), u64(2), text('a'), text('')),
          key('nested', 9, u32(9), u64(2), u32(0), u64(1), Buffer.from([5]), u32(7), u64(0)),
          key('general.alignment', 4, u32(64)),
        ],
        tensors: [tensor('b', [32, 2], 8, 64), tensor('a', [3], 0, 0)],
        alignment: 64,
        dataBytes: 64 + 68,
      }),
    );
    expect(gguf.version).toBe(2);
    expect(Object.fromEntries(gguf.metadata)).toEqual({
      u8: 200,
      i8: -56,
      u16: 65534,
      i16: -2,
      u32: 4294967294,
      i32: -2,
      f32: 0.5,
      bool: true,
      string: '\ufeffé',
      u64: 7,
      i64: -1,
      huge: 2n ** 64n - 1n,
      f64: -0.1,
      strings: ['a', ''],
      nested: [[5], []],
      'general.alignment': 64,
    });
    const b = gguf.tensors.get('b')!;
    const a = gguf.tensors.get('a')!;
    expect([b.type, b.shape, b.length]).toEqual(['Q8_0', [2, 32], 68]);
    expect([a.offset % 64, b.offset - a.offset]).toEqual([0, 64]);
    expect((await readGgufTensor(gguf, b)).length).toBe(64);
  });

  it('reads a header longer than its first read', async () => {
    const value = 'x'.repeat(3 << 20);
    const { metadata } = await read(file({ keys: [key('long', 8, text(value)), key('after', 4, u32(5))] }));
    expect(metadata.get('long')).toBe(value);
    expect(metadata.get('after')).toBe(5);
  });

  const one = (dims: (number | bigint)[], type = 0, offset: number | bigint = 0, dataBytes = 64) =>
    file({ tensors: [tensor('w', dims, type, offset)], dataBytes });

  it.each<[string, Uint8Array, RegExp]>([
    ['an empty file', new Uint8Array(0), /not a GGUF file/],
    ['another magic number', file({ magic: 'GGML' }), /not a GGUF file/],
    ['version 1', file({ version: 1 }), /GGUF version 1, expected 2 or 3/],
    ['a big-endian file', file({ version: 0x03000000 }), /big-endian/],
    ['a cut header', file({ keys: [key('a', 8, text('abc'))] }).subarray(0, 40), /ends at byte 40/],
    ['more keys than bytes', file({ keyCount: 2n ** 40n }), /metadata keys is 1099511627776, more than/],
    ['more keys than numbers', file({ keyCount: 2n ** 64n - 1n }), /more than any file holds/],
    ['more tensors than bytes', file({ tensorCount: 2n ** 50n }), /number of tensors is .*, more than/],
    [
      'a string beyond the file',
      file({ keys: [key('a', 8, u64(2n ** 33n))] }),
      /length of metadata "a" is 8589934592/,
    ],
    [
      'an array beyond the file',
      file({ keys: [key('a', 9, u32(8), u64(1000))] }),
      /length of metadata "a" is 1000/,
    ],
    [
      'more keys than any file has',
      file({ keyCount: 65537n, dataBytes: 65537 * 13 }),
      /metadata keys is 65537, more than the 65536 allowed/,
    ],
    [
      'more tensors than any file has',
      file({ tensorCount: 131073n, dataBytes: 131073 * 24 }),
      /number of tensors is 131073, more than the 131072 allowed/,
    ],
    [
      'arrays with more elements together than allowed',
      file({
        keys: [key('a', 9, u32(7), u64(1), Buffer.from([1])), key('b', 9, u32(7), u64(1 << 24))],
        dataBytes: 1 << 24,
      }),
      /the arrays up to metadata "b" have more than the 16777216 elements/,
    ],
    [
      'an unknown value type',
      file({ keys: [key('a', 13)], dataBytes: 9 }),
      /"a" has the unknown value type 13/,
    ],
    ['an unknown element type', file({ keys: [key('a', 9, u32(99), u64(0))] }), /unknown element type 99/],
    [
      'deep nesting',
      file({
        keys: [key('a', 9, ...Array.from({ length: 20 }, () => [u32(9), u64(1)]).flat())],
        dataBytes: 99,
      }),
      /nests arrays deeper than 4/,
    ],
    [
      'text that is not UTF-8',
      file({ keys: [key('a', 8, u64(1), Buffer.from([0xff]))] }),
      /"a" is not UTF-8/,
    ],
    ['a key twice', file({ keys: [key('a', 4, u32(1)), key('a', 4, u32(1))] }), /"a" appears twice/],
    ['five dimensions', one([1, 1, 1, 1, 1]), /has 5 dimensions/],
    ['a size of 0', one([0]), /shape \[0\], which F32 cannot have/],
    ['a size beyond numbers', one([2n ** 40n, 2n ** 40n]), /which F32 cannot have/],
    ['half a block', one([33], 2), /shape \[33\], which Q4_0 cannot have/],
    ['a type that is not read', one([256], 10), /has type Q2_K, which is not read; expected F32/],
    ['a type that nobody knows', one([256], 77), /has type number 77/],
    ['an unaligned offset', one([1], 0, 4), /offset 4, which is no multiple of the alignment 32/],
    ['a tensor behind the end', one([1], 0, 64), /ends at byte \d+, the file at \d+: is it cut short\?/],
    ['an offset beyond numbers', one([1], 0, 2n ** 63n), /more than any file holds/],
    [
      'an overlap',
      file({ tensors: [tensor('a', [16], 0, 0), tensor('b', [1], 0, 32)], dataBytes: 64 }),
      /"b" overlaps/,
    ],
    [
      'a tensor twice',
      file({ tensors: [tensor('a', [1], 0, 0), tensor('a', [1], 0, 32)], dataBytes: 64 }),
      /tensor "a" appears twice/,
    ],
    [
      'an alignment of 3',
      file({ keys: [key('general.alignment', 4, u32(3))] }),
      /general.alignment is 3, expected/,
    ],
  ])('refuses %s', async (_, bytes, message) => {
    const error = await read(bytes).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect(String(error)).toMatch(message);
    expect(String(error)).toContain(path);
  });

  it('throws nothing but UserError for a changed file, and reads all that it accepts', async () => {
    const good = await readFile(FIXTURE);
    const headerBytes = 12_000;
    const mutation = fc.record({
      at: fc.oneof(fc.nat(64), fc.nat(headerBytes), fc.nat(good.length - 8), fc.nat(good.length - 8)),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
    });
    const cut = fc.oneof(
      { weight: 3, arbitrary: fc.constant(null) },
      { weight: 1, arbitrary: fc.nat(good.length - 1) },
    );
    let accepted = 0;
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 2 }), cut, async (mutations, length) => {
        const bytes = new Uint8Array(good);
        for (const m of mutations) bytes.set(m.bytes, m.at);
        try {
          const gguf = await read(length === null ? bytes : bytes.subarray(0, length));
          for (const info of gguf.tensors.values()) await readGgufTensor(gguf, info);
          accepted++;
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          refused++;
        }
      }),
      { numRuns: 400 },
    );
    expect(Math.min(accepted, refused)).toBeGreaterThan(20);
  });
});
