/** Writes GGUF files, version 3, little endian. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
import { refuseWritingNonFinite } from '../../base/finite.js';
import { sizeOf } from '../../base/tensor.js';
import { writeStreamAtomic } from '../io/write.js';
import { GGML_TYPES, GGUF_DTYPES, type GgufDType } from './types.js';

/** One metadata value with its type in the file. */
export type GgufField = { key: string } & (
  | { type: 'string'; value: string }
  | { type: 'uint32' | 'float32'; value: number }
  | { type: 'bool'; value: boolean }
  | { type: 'strings'; value: readonly string[] }
  | { type: 'int32s' | 'float32s'; value: readonly number[] }
);

/** A tensor to write. `data` is asked for only when its turn comes, and let go after. */
export interface GgufEntry {
  name: string;
  dtype: GgufDType;
  /** Outermost first, as Hugging Face writes it. */
  shape: readonly number[];
  /** Little-endian bytes, as many as dtype and shape say. */
  data: () => Promise<Uint8Array> | Uint8Array;
}

const FIELD_IDS = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;
const ALIGNMENT = 32;

/** Writes the file whole or not at all, replacing a file of that name; one tensor is held at a time. */
export async function writeGguf(
  path: string,
  fields: readonly GgufField[],
  entries: readonly GgufEntry[],
): Promise<void> {
  await writeStreamAtomic(path, async (write) => {
    const header = encodeHeader(fields, entries);
    await write(padded(header));
    for (const entry of entries) {
      const bytes = await entry.data();
      if (bytes.length !== entryBytes(entry)) {
        throw new Error(`${entry.name}: ${bytes.length} bytes given for ${entry.dtype} [${entry.shape}]`);
      }
      const { dtype } = entry;
      // Of blocks of codes the values were looked at before.
      if (dtype !== 'q8_0' && dtype !== 'q4_0') refuseWritingNonFinite(path, entry.name, bytes, dtype);
      await write(padded(bytes));
    }
  });
}

function encodeHeader(fields: readonly GgufField[], entries: readonly GgufEntry[]): Uint8Array {
  const parts = [Buffer.from('GGUF'), u32(3), u64(entries.length), u64(fields.length)];
  for (const field of fields) parts.push(text(field.key), encodeValue(field));
  let offset = 0;
  for (const entry of entries) {
    const dims = [...entry.shape].reverse();
    const type = GGML_TYPES[GGUF_DTYPES[entry.dtype].type].id;
    parts.push(text(entry.name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset));
    offset += align(entryBytes(entry));
  }
  return Buffer.concat(parts);
}

/** A value behind the number of its type. */
function encodeValue(field: GgufField): Buffer {
  switch (field.type) {
    case 'string':
      return Buffer.concat([u32(FIELD_IDS.string), text(field.value)]);
    case 'uint32':
      return Buffer.concat([u32(FIELD_IDS.uint32), u32(field.value)]);
    case 'float32':
      return Buffer.concat([u32(FIELD_IDS.float32), bytesOf(Float32Array.of(field.value))]);
    case 'bool':
      return Buffer.concat([u32(FIELD_IDS.bool), Buffer.of(Number(field.value))]);
    case 'strings':
      return array(FIELD_IDS.string, field.value.length, Buffer.concat(field.value.map(text)));
    case 'int32s':
      return array(FIELD_IDS.int32, field.value.length, bytesOf(Int32Array.from(field.value)));
    case 'float32s':
      return array(FIELD_IDS.float32, field.value.length, bytesOf(Float32Array.from(field.value)));
  }
}

function array(elements: number, length: number, values: Buffer): Buffer {
  return Buffer.concat([u32(FIELD_IDS.array), u32(elements), u64(length), values]);
}

function bytesOf({ buffer }: Float32Array | Int32Array): Buffer {
  return Buffer.from(buffer);
}

function entryBytes({ dtype, shape }: GgufEntry): number {
  const { elements, bytes } = GGML_TYPES[GGUF_DTYPES[dtype].type];
  return (sizeOf(shape) / elements) * bytes;
}

function align(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}

function padded(bytes: Uint8Array): Uint8Array {
  const length = align(bytes.length);
  return length === bytes.length ? bytes : Buffer.concat([bytes], length);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(bytes.length), bytes]);
}
