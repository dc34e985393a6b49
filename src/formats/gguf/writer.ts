/** Writes GGUF files, version 3, little endian. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
import { refuseWritingNonFinite } from '../../base/finite.js';
import { type StoredDType, sizeOf } from '../../base/tensor.js';
import { writeStreamAtomic } from '../io/write.js';
import { GGML_TYPES } from './types.js';

/** One metadata value with its type in the file. */
export type GgufField = { key: string } & (
  | { type: 'string'; value: string }
  | { type: 'uint32' | 'float32'; value: number }
);

/** A tensor to write. `data` is asked for only when its turn comes, and let go after. */
export interface GgufEntry {
  name: string;
  dtype: StoredDType;
  /** Outermost first, as Hugging Face writes it. */
  shape: readonly number[];
  /** Little-endian bytes, as many as dtype and shape say. */
  data: () => Promise<Uint8Array> | Uint8Array;
}

const GGML_OF = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;
const FIELD_IDS = { uint32: 4, float32: 6, string: 8 } as const;
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
      refuseWritingNonFinite(path, entry.name, bytes, entry.dtype);
      await write(padded(bytes));
    }
  });
}

function encodeHeader(fields: readonly GgufField[], entries: readonly GgufEntry[]): Uint8Array {
  const parts = [Buffer.from('GGUF'), u32(3), u64(entries.length), u64(fields.length)];
  for (const field of fields) parts.push(text(field.key), u32(FIELD_IDS[field.type]), encodeValue(field));
  let offset = 0;
  for (const entry of entries) {
    const dims = [...entry.shape].reverse();
    const type = GGML_TYPES[GGML_OF[entry.dtype]].id;
    parts.push(text(entry.name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset));
    offset += align(entryBytes(entry));
  }
  return Buffer.concat(parts);
}

function encodeValue(field: GgufField): Buffer {
  if (field.type === 'string') return text(field.value);
  if (field.type === 'uint32') return u32(field.value);
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(field.value);
  return bytes;
}

function entryBytes({ dtype, shape }: GgufEntry): number {
  return sizeOf(shape) * GGML_TYPES[GGML_OF[dtype]].bytes;
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
