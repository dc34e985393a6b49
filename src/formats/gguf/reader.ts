/**
 * The header of a GGUF file, version 2 or 3, little endian: metadata and where each tensor lies.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { UserError } from '../../base/errors.js';
import { sizeOf } from '../../base/tensor.js';
import { refuseLfsPointer } from '../io/lfs.js';
import { type ByteSource, readFully, readInto, withFile } from '../io/node.js';
import { dequantize } from './dequant.js';
import { foreignTypeName, GGML_TYPE_NAMES, GGML_TYPES, type GgmlType, ggmlTypeOf } from './types.js';

export type GgufValue = number | bigint | boolean | string | GgufValue[];

/** Where a tensor lies in a GGUF file. */
export interface GgufTensor {
  name: string;
  type: GgmlType;
  /** Outermost first, as Hugging Face writes it (GGUF itself has the innermost first). */
  shape: number[];
  /** First byte, counted from the start of the file. */
  offset: number;
  /** Bytes. */
  length: number;
}

export interface Gguf {
  path: string;
  version: number;
  metadata: Map<string, GgufValue>;
  tensors: Map<string, GgufTensor>;
}

/** Read first; the header of a model with 150,000 tokens has some 8 MB. */
const FIRST_READ_BYTES = 1 << 20;
/** Far above any real header; keeps a lying file from filling the memory. */
const MAX_HEADER_BYTES = 1 << 28;
/**
 * Of all arrays of a file together: vocabularies have up to 300,000 tokens, merges some more. An element of one byte
 * takes eight in memory.
 */
const MAX_ARRAY_ELEMENTS = 1 << 24;
/** Real files have some hundred keys, and some thousand tensors. */
const MAX_KEYS = 1 << 16;
const MAX_TENSORS = 1 << 17;
/** No writer nests arrays at all. */
const MAX_ARRAY_DEPTH = 4;
/** ggml's own limit. */
const MAX_DIMS = 4;
const DEFAULT_ALIGNMENT = 32;

/**
 * Reads and checks the header of a GGUF file.
 * @throws UserError naming the file and what is wrong: no GGUF, another version, cut short, a count or
 * length beyond the file, an unaligned or overlapping tensor, a block type that is not read here.
 */
export function readGguf(path: string): Promise<Gguf> {
  return withFile(path, (file, size) => readGgufFrom(path, file, size));
}

/** As readGguf, from an open file of `size` bytes that errors call `path`. */
export async function readGgufFrom(path: string, source: ByteSource, size: number): Promise<Gguf> {
  for (let want = FIRST_READ_BYTES; ; want *= 4) {
    const prefix = new Uint8Array(Math.min(want, size, MAX_HEADER_BYTES));
    await readFully(source, path, prefix, 0);
    refuseLfsPointer(path, prefix);
    try {
      return parseGguf(path, prefix, size);
    } catch (error) {
      if (!(error instanceof PrefixTooShort)) throw error;
      if (want >= MAX_HEADER_BYTES)
        throw new UserError(`${path}: the header has more than ${MAX_HEADER_BYTES} bytes`);
    }
  }
}

/** A tensor's values as float32, row-major in `info.shape`. */
export async function readGgufTensor(gguf: Pick<Gguf, 'path'>, info: GgufTensor): Promise<Float32Array> {
  const bytes = new Uint8Array(info.length);
  await readInto(gguf.path, bytes, info.offset);
  const values = new Float32Array(sizeOf(info.shape));
  dequantize(info.type, bytes, values);
  return values;
}

/** The header goes on behind the bytes read so far, and the file does too. */
class PrefixTooShort extends Error {}

/** Bytes of a value of each type: exact for numbers, the least possible for strings (8) and arrays (9). */
const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];

class Cursor {
  at = 0;
  /** Of the arrays so far. */
  private elements = 0;
  private readonly view: DataView;

  constructor(
    private readonly path: string,
    private readonly bytes: Uint8Array,
    /** Bytes of the whole file, of which `bytes` are the first. */
    readonly size: number,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fail(what: string): never {
    throw new UserError(`${this.path}: ${what}`);
  }

  /** Moves on by `count` bytes and returns where they begin. */
  take(count: number, what: string): number {
    if (count > this.size - this.at) {
      this.fail(
        `the file ends at byte ${this.size} within ${what}, which needs ${count} bytes from ${this.at}`,
      );
    }
    if (this.at + count > this.bytes.length) throw new PrefixTooShort();
    const start = this.at;
    this.at += count;
    return start;
  }

  u32(what: string): number {
    return this.view.getUint32(this.take(4, what), true);
  }

  /** A 64-bit count, length or offset; beyond 2^53 no file reaches. */
  u64(what: string): number {
    const value = this.view.getBigUint64(this.take(8, what), true);
    if (value > Number.MAX_SAFE_INTEGER) this.fail(`${what} is ${value}, more than any file holds`);
    return Number(value);
  }

  /** A count of things that take at least `each` bytes. */
  count(each: number, what: string, max = Number.POSITIVE_INFINITY): number {
    const count = this.u64(what);
    if (count > (this.size - this.at) / each)
      this.fail(`${what} is ${count}, more than the file has room for`);
    if (count > max) this.fail(`${what} is ${count}, more than the ${max} allowed`);
    return count;
  }

  string(what: string): string {
    const length = this.count(1, `the length of ${what}`);
    const start = this.take(length, what);
    try {
      return utf8.decode(this.bytes.subarray(start, start + length));
    } catch {
      this.fail(`${what} is not UTF-8 text`);
    }
  }

  value(type: number, what: string, depth = 0): GgufValue {
    const { view } = this;
    if (type === 8) return this.string(what);
    if (type === 9) return this.array(what, depth);
    const start = this.take(
      VALUE_BYTES[type] ?? this.fail(`${what} has the unknown value type ${type}`),
      what,
    );
    switch (type) {
      case 0:
        return view.getUint8(start);
      case 1:
        return view.getInt8(start);
      case 2:
        return view.getUint16(start, true);
      case 3:
        return view.getInt16(start, true);
      case 4:
        return view.getUint32(start, true);
      case 5:
        return view.getInt32(start, true);
      case 6:
        return view.getFloat32(start, true);
      case 7:
        return view.getUint8(start) !== 0;
      case 10:
        return narrow(view.getBigUint64(start, true));
      case 11:
        return narrow(view.getBigInt64(start, true));
      default:
        return view.getFloat64(start, true);
    }
  }

  private array(what: string, depth: number): GgufValue[] {
    if (depth === MAX_ARRAY_DEPTH) this.fail(`${what} nests arrays deeper than ${MAX_ARRAY_DEPTH}`);
    const type = this.u32(`the element type of ${what}`);
    const each = VALUE_BYTES[type] ?? this.fail(`${what} has the unknown element type ${type}`);
    const count = this.count(each, `the length of ${what}`);
    this.elements += count;
    if (this.elements > MAX_ARRAY_ELEMENTS)
      this.fail(`the arrays up to ${what} have more than the ${MAX_ARRAY_ELEMENTS} elements allowed`);
    const values: GgufValue[] = [];
    for (let i = 0; i < count; i++) values.push(this.value(type, what, depth + 1));
    return values;
  }
}

/** Keeps a byte order mark: it is a token of some vocabularies. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Parses the header from the first bytes of a file of `size` bytes. Throws PrefixTooShort when it goes on behind them. */
function parseGguf(path: string, prefix: Uint8Array, size: number): Gguf {
  const cursor = new Cursor(path, prefix, size);
  if (size < 4 || cursor.u32('the magic number') !== 0x46554747) cursor.fail('this is not a GGUF file');
  const version = cursor.u32('the version');
  if ((version & 0xffff) === 0) cursor.fail('this is a big-endian GGUF file, which is not read');
  if (version !== 2 && version !== 3) cursor.fail(`this has GGUF version ${version}, expected 2 or 3`);
  const tensorCount = cursor.count(24, 'the number of tensors', MAX_TENSORS);
  const keyCount = cursor.count(13, 'the number of metadata keys', MAX_KEYS);

  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.string(`metadata key ${i + 1}`);
    const what = `metadata ${JSON.stringify(key)}`;
    if (metadata.has(key)) cursor.fail(`${what} appears twice`);
    metadata.set(key, cursor.value(cursor.u32(`the type of ${what}`), what));
  }
  const tensors = new Map<string, GgufTensor>();
  for (let i = 0; i < tensorCount; i++) {
    const tensor = parseTensor(cursor, i);
    if (tensors.has(tensor.name)) cursor.fail(`tensor ${JSON.stringify(tensor.name)} appears twice`);
    tensors.set(tensor.name, tensor);
  }
  placeTensors(cursor, tensors, alignmentOf(cursor, metadata));
  return { path, version, metadata, tensors };
}

/** A tensor's entry; its offset still counts from the start of the data. */
function parseTensor(cursor: Cursor, index: number): GgufTensor {
  const name = cursor.string(`the name of tensor ${index + 1}`);
  const what = `tensor ${JSON.stringify(name)}`;
  const dims = cursor.u32(`the rank of ${what}`);
  if (dims > MAX_DIMS) cursor.fail(`${what} has ${dims} dimensions, more than the ${MAX_DIMS} allowed`);
  const shape: number[] = [];
  for (let i = 0; i < dims; i++) shape.unshift(cursor.u64(`a size of ${what}`));
  const id = cursor.u32(`the type of ${what}`);
  const offset = cursor.u64(`the offset of ${what}`);
  const type = ggmlTypeOf(id);
  if (type === undefined) {
    cursor.fail(
      `${what} has type ${foreignTypeName(id)}, which is not read; expected ${GGML_TYPE_NAMES.join(', ')}`,
    );
  }
  const { elements, bytes } = GGML_TYPES[type];
  const total = sizeOf(shape);
  const row = shape[shape.length - 1] ?? 1;
  if (!Number.isSafeInteger(total) || total === 0 || row % elements !== 0) {
    cursor.fail(`${what} has shape [${shape.join(', ')}], which ${type} cannot have`);
  }
  return { name, type, shape, offset, length: (total / elements) * bytes };
}

function alignmentOf(cursor: Cursor, metadata: Map<string, GgufValue>): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  if (
    typeof alignment !== 'number' ||
    !(alignment >= 1 && alignment <= 65536 && Number.isInteger(Math.log2(alignment)))
  ) {
    cursor.fail(`general.alignment is ${alignment}, expected a power of two`);
  }
  return alignment;
}

/** Turns offsets into positions in the file, and refuses what lies outside it, unaligned, or on another tensor. */
function placeTensors(cursor: Cursor, tensors: Map<string, GgufTensor>, alignment: number): void {
  const start = Math.ceil(cursor.at / alignment) * alignment;
  for (const tensor of tensors.values()) {
    const what = `tensor ${JSON.stringify(tensor.name)}`;
    if (tensor.offset % alignment !== 0) {
      cursor.fail(`${what} has offset ${tensor.offset}, which is no multiple of the alignment ${alignment}`);
    }
    tensor.offset += start;
    if (tensor.offset + tensor.length > cursor.size) {
      cursor.fail(
        `${what} ends at byte ${tensor.offset + tensor.length}, the file at ${cursor.size}: is it cut short?`,
      );
    }
  }
  let end = 0;
  for (const tensor of [...tensors.values()].sort((a, b) => a.offset - b.offset)) {
    if (tensor.offset < end)
      cursor.fail(`tensor ${JSON.stringify(tensor.name)} overlaps the tensor before it`);
    end = tensor.offset + tensor.length;
  }
}
