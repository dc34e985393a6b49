/**
 * The safetensors format: eight bytes with the header's length (little endian), a JSON header that gives
 * each tensor its dtype, shape and byte range, then the data without gaps.
 * https://github.com/huggingface/safetensors
 */
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import * as z from 'zod';
import { nearest, UserError } from '../base/errors.js';
import { refuseNonFinite, refuseWritingNonFinite } from '../base/finite.js';
import { type StoredDType, sizeOf, type WeightDType } from '../base/tensor.js';
import { bf16ToF32, f16ToF32 } from './float16.js';
import { checkJson, decodeUtf8, duplicateKey, parseJsonText } from './io/json.js';
import { LFS_PREFIX_BYTES, refuseLfsPointer } from './io/lfs.js';
import { type ByteSource, fileError, readFully, readInto, withFile } from './io/node.js';
import { writeStreamAtomic } from './io/write.js';

/** Bytes an element of each dtype, in the order by which the reference writer sorts tensors (last first). */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  C64: 8,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

export type SafetensorsDType = keyof typeof DTYPE_BYTES;

const DTYPE_ORDER = Object.keys(DTYPE_BYTES);

/** What Hugging Face's own tools accept; a header of a model with 100,000 tensors has some 15 MB. */
const MAX_HEADER_BYTES = 25_000_000;

/** The header, a tensor in it, its shape. */
const HEADER_DEPTH = 3;

/** Names that are harmless in a Map and a trap in anything else that may hold them. */
const POLLUTING_NAMES = new Set(['__proto__', 'constructor', 'prototype']);

/** Where a tensor lies on disk. */
export interface TensorInfo {
  name: string;
  dtype: SafetensorsDType;
  shape: number[];
  /** Absolute path with symbolic links followed: ONNX Runtime refuses external data behind links. */
  file: string;
  /** First byte, counted from the start of the file. */
  offset: number;
  /** Bytes. */
  length: number;
}

export interface SafetensorsHeader {
  tensors: Map<string, TensorInfo>;
  metadata: Record<string, string>;
}

const tensorSchema = z.strictObject({
  dtype: z.enum(DTYPE_ORDER as [SafetensorsDType, ...SafetensorsDType[]]),
  shape: z.array(z.int().nonnegative()),
  data_offsets: z.tuple([z.int().nonnegative(), z.int().nonnegative()]),
});
const metadataSchema = z.record(z.string(), z.string());

/**
 * Reads the header of a safetensors file and checks all it says: byte ranges that fill the file without
 * gap or overlap, sizes that follow from dtype and shape, names that appear once.
 * @throws UserError naming the file and the tensor.
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  const real = await realpath(path).catch((error: unknown) => {
    throw fileError('read', path, error);
  });
  return withFile(real, (file, size) => readHeaderFrom(path, resolve(real), file, size));
}

/** As readSafetensorsHeader, from the open file `real` of `size` bytes, which errors call `path`. */
export async function readHeaderFrom(
  path: string,
  real: string,
  source: ByteSource,
  size: number,
): Promise<SafetensorsHeader> {
  const start = new Uint8Array(Math.min(size, LFS_PREFIX_BYTES));
  await readFully(source, path, start, 0);
  refuseLfsPointer(path, start);
  if (size < 8) throw new UserError(`${path} is not a safetensors file: it has only ${size} bytes`);
  const length = new DataView(start.buffer).getBigUint64(0, true);
  if (length > BigInt(size - 8)) {
    throw new UserError(
      `${path} is cut short or no safetensors file: its header should have ${length} bytes, the file has ${size}`,
    );
  }
  if (length > MAX_HEADER_BYTES) {
    throw new UserError(`${path}: the header has ${length} bytes, more than the ${MAX_HEADER_BYTES} allowed`);
  }
  const header = new Uint8Array(Number(length));
  await readFully(source, path, header, 8);
  const dataStart = 8 + header.length;
  return parseHeader(path, real, header, dataStart, size - dataStart);
}

function parseHeader(path: string, file: string, header: Uint8Array, dataStart: number, dataBytes: number) {
  const place = `${path}: the header`;
  const text = decodeUtf8(place, header);
  const raw = parseJsonText(place, text, HEADER_DEPTH);
  const json = checkJson(place, raw, z.record(z.string(), z.unknown()));
  const twice = duplicateKey(text);
  if (twice !== undefined) throw new UserError(`${place} has the key ${JSON.stringify(twice)} twice`);
  // zod's copy has dropped "__proto__" silently.
  const polluting = Object.keys(Object(raw)).find((name) => POLLUTING_NAMES.has(name));
  if (polluting !== undefined)
    throw new UserError(`${place} has a tensor with the forbidden name ${polluting}`);

  let metadata: Record<string, string> = {};
  const tensors = new Map<string, TensorInfo>();
  for (const [name, value] of Object.entries(json)) {
    if (name === '__metadata__') {
      metadata = checkJson(`${place}, __metadata__`, value, metadataSchema);
      continue;
    }
    const { dtype, shape, data_offsets } = checkJson(
      `${path}: tensor ${JSON.stringify(name)}`,
      value,
      tensorSchema,
    );
    const [begin, end] = data_offsets;
    const wanted = sizeOf(shape) * DTYPE_BYTES[dtype];
    if (end - begin !== wanted) {
      throw new UserError(
        `${path}: tensor ${JSON.stringify(name)} of ${dtype} [${shape}] needs ${wanted} bytes and has ${end - begin}`,
      );
    }
    tensors.set(name, { name, dtype, shape, file, offset: dataStart + begin, length: wanted });
  }
  refuseGaps(path, tensors, dataStart, dataBytes);
  return { tensors, metadata };
}

function refuseGaps(path: string, tensors: Map<string, TensorInfo>, dataStart: number, dataBytes: number) {
  let at = dataStart;
  const inOrder = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.length - b.length);
  for (const { name, offset, length } of inOrder) {
    if (offset !== at) {
      const fault = offset < at ? 'overlaps the tensor before it' : 'leaves a gap before it';
      throw new UserError(`${path}: tensor ${JSON.stringify(name)} ${fault}`);
    }
    at = offset + length;
  }
  const expected = at - dataStart;
  if (expected !== dataBytes) {
    const fault = dataBytes < expected ? 'is cut short' : 'has bytes that belong to no tensor';
    throw new UserError(
      `${path} ${fault}: its tensors need ${expected} bytes of data and it has ${dataBytes}`,
    );
  }
}

/** The bytes of a tensor as they are on disk. */
export async function readTensorBytes(info: TensorInfo): Promise<Uint8Array> {
  const bytes = new Uint8Array(info.length);
  await readInto(info.file, bytes, info.offset);
  return bytes;
}

/**
 * A tensor's values as float32, row-major; F16 and BF16 convert exactly, F64 is rounded.
 * @throws UserError for any other dtype.
 */
export async function readTensorF32(info: TensorInfo): Promise<Float32Array> {
  if (info.dtype === 'F64') return Float32Array.from(new Float64Array((await readTensorBytes(info)).buffer));
  if (info.dtype !== 'F32' && info.dtype !== 'F16' && info.dtype !== 'BF16') {
    throw new UserError(
      `${info.file}: tensor "${info.name}" has dtype ${info.dtype}, expected F32, F16, BF16 or F64`,
    );
  }
  const values = new Float32Array(sizeOf(info.shape));
  // Halves are read into the upper half of the target, where the conversion runs just behind its source.
  const raw = new Uint8Array(values.buffer, values.byteLength - info.length);
  await readInto(info.file, raw, info.offset);
  if (info.dtype === 'F32') return values;
  const halves = new Uint16Array(values.buffer, raw.byteOffset);
  if (info.dtype === 'F16') f16ToF32(halves, values);
  else bf16ToF32(halves, values);
  return values;
}

/** The same of an adapter's tensor. Throws UserError, with the count, where a value is not finite. */
export async function readFinite(info: TensorInfo): Promise<Float32Array> {
  const values = await readTensorF32(info);
  refuseNonFinite(info.file, info.name, values);
  return values;
}

const COMPARED_BYTES = 1 << 24;

/** Whether two tensors hold the same values. Bytes are compared where the dtypes are equal, without holding either whole. */
export async function equalTensors(a: TensorInfo, b: TensorInfo): Promise<boolean> {
  if (String(a.shape) !== String(b.shape)) return false;
  if (a.dtype !== b.dtype) {
    const [x, y] = [await readTensorF32(a), await readTensorF32(b)];
    return x.every((value, i) => value === y[i]);
  }
  for (let at = 0; at < a.length; at += COMPARED_BYTES) {
    const [x, y] = await Promise.all(
      [a, b].map(async ({ file, offset, length }) => {
        const piece = new Uint8Array(Math.min(COMPARED_BYTES, length - at));
        await readInto(file, piece, offset + at);
        return piece;
      }),
    );
    if (Buffer.compare(x, y) !== 0) return false;
  }
  return true;
}

/** The tensor of that name. Throws UserError with the nearest name when there is none. */
export function tensorNamed(
  tensors: ReadonlyMap<string, TensorInfo>,
  name: string,
  place: string,
): TensorInfo {
  const info = tensors.get(name);
  if (info !== undefined) return info;
  const guess = nearest(name, tensors.keys());
  throw new UserError(
    `${place} has no tensor "${name}"${guess === undefined ? '' : `; the nearest is "${guess}"`}`,
  );
}

/** The name that safetensors has for one of our stored dtypes. */
export function safetensorsDType(dtype: StoredDType): SafetensorsDType {
  return ({ float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const)[dtype];
}

/** The weights' dtype that safetensors has this name for; undefined for those that hold no weights. */
export function weightDType(dtype: SafetensorsDType): WeightDType | undefined {
  return WEIGHT_DTYPES[dtype];
}

const WEIGHT_DTYPES: Partial<Record<SafetensorsDType, WeightDType>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  F64: 'float64',
};

/** A tensor to write. `data` is asked for only when its turn comes, and let go after. */
export interface TensorEntry {
  name: string;
  dtype: SafetensorsDType;
  shape: readonly number[];
  /** Little-endian bytes, as many as dtype and shape say. */
  data: () => Promise<Uint8Array> | Uint8Array;
}

/** Bytes that an entry's data must have. */
export function entryBytes(entry: Pick<TensorEntry, 'dtype' | 'shape'>): number {
  return sizeOf(entry.shape) * DTYPE_BYTES[entry.dtype];
}

/**
 * Writes a safetensors file, holding one tensor at a time. Tensors lie as the reference writer puts them:
 * widest dtype first, then by name, so equal content gives equal bytes. Replaces a file of that name, whole.
 * @throws UserError when a name appears twice, a tensor holds NaN or infinity, or the disk refuses.
 */
export async function writeSafetensors(
  path: string,
  entries: readonly TensorEntry[],
  metadata?: Record<string, string>,
): Promise<void> {
  const sorted = [...entries].sort(
    (a, b) =>
      DTYPE_ORDER.indexOf(b.dtype) - DTYPE_ORDER.indexOf(a.dtype) ||
      Buffer.from(a.name).compare(Buffer.from(b.name)),
  );
  await writeStreamAtomic(path, async (write) => {
    await write(encodeHeader(path, sorted, metadata));
    for (const entry of sorted) {
      const bytes = await entry.data();
      if (bytes.length !== entryBytes(entry)) {
        throw new Error(`${entry.name}: ${bytes.length} bytes given for ${entry.dtype} [${entry.shape}]`);
      }
      const dtype = weightDType(entry.dtype);
      if (dtype) refuseWritingNonFinite(path, entry.name, bytes, dtype);
      await write(bytes);
    }
  });
}

function encodeHeader(
  path: string,
  entries: readonly TensorEntry[],
  metadata?: Record<string, string>,
): Uint8Array {
  const header = new Map<string, unknown>();
  if (metadata !== undefined) header.set('__metadata__', metadata);
  let at = 0;
  for (const entry of entries) {
    if (POLLUTING_NAMES.has(entry.name) || entry.name === '__metadata__' || header.has(entry.name)) {
      throw new UserError(`cannot write ${path}: a tensor may not be named "${entry.name}", or not twice`);
    }
    const end = at + entryBytes(entry);
    header.set(entry.name, { dtype: entry.dtype, shape: entry.shape, data_offsets: [at, end] });
    at = end;
  }
  // Not an object: its keys would put integer-like names first.
  const fields = [...header].map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  const json = Buffer.from(`{${fields.join(',')}}`, 'utf8');
  const padded = Math.ceil(json.length / 8) * 8;
  const bytes = Buffer.alloc(8 + padded, ' ');
  bytes.writeBigUInt64LE(BigInt(padded), 0);
  json.copy(bytes, 8);
  return bytes;
}
