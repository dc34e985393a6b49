/**
 * ONNX files with their weights: in the file, or where that would be too long in files beside it.
 * https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
 */
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { sizeOf } from '../../base/tensor.js';
import { type Write, writeStreamAtomic } from '../io/write.js';
import {
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProto_DataType,
  TensorProtoSchema,
} from './onnx-ml_pb.js';

/** Bytes that a file may have: a protobuf message ends at 2 GiB, and so do the buffers of browsers. */
export const MAX_FILE_BYTES = 2e9;

/** Where a weight's offset in a file of data is a multiple of: a page, so that it can be mapped. */
const ALIGNMENT = 4096;

/** Numbers of the fields that are written piece by piece. */
const FIELDS = {
  graph: fieldNumber(ModelProtoSchema, 'graph'),
  initializer: fieldNumber(GraphProtoSchema, 'initializer'),
  rawData: fieldNumber(TensorProtoSchema, 'raw_data'),
};

const ELEMENT_BYTES: Partial<Record<TensorProto_DataType, number>> = {
  [TensorProto_DataType.FLOAT]: 4,
  [TensorProto_DataType.FLOAT16]: 2,
  [TensorProto_DataType.UINT8]: 1,
};

export interface OnnxFileOptions {
  /** Weights go into files of at most this size beside the model, where it would be longer with them. */
  maxShardBytes?: number;
}

/**
 * Writes `folder`/`name`, the model of `bytes` with its external weights as `read` gives them by name, one held at a time, and
 * returns into how many files of data they went: 0 where they are in the model itself, else `name`_data, `name`_data_1 …
 */
export async function writeOnnx(
  folder: string,
  name: string,
  bytes: Uint8Array,
  read: (name: string) => Promise<Uint8Array>,
  { maxShardBytes = MAX_FILE_BYTES }: OnnxFileOptions = {},
): Promise<number> {
  const model = fromBinary(ModelProtoSchema, bytes);
  const weights = model.graph!.initializer.filter(isExternal);
  const checked = async (weight: TensorProto) => {
    const data = await read(weight.name);
    if (data.length === bytesOf(weight)) return data;
    throw new Error(`${weight.name} has ${data.length} bytes, and ${bytesOf(weight)} in the graph`);
  };
  const total = weights.reduce((n, weight) => n + bytesOf(weight), bytes.length);
  if (total <= maxShardBytes) {
    await writeStreamAtomic(join(folder, name), (write) => writeWhole(write, model, checked));
    return 0;
  }
  const files = placed(weights, name, maxShardBytes);
  await writeStreamAtomic(join(folder, name), (write) => write(toBinary(ModelProtoSchema, model)));
  for (const [file, held] of files) {
    await writeStreamAtomic(join(folder, file), async (write) => {
      let at = 0;
      for (const { weight, offset } of held) {
        if (offset > at) await write(new Uint8Array(offset - at));
        const data = await checked(weight);
        await write(data);
        at = offset + data.length;
      }
    });
  }
  return files.size;
}

function isExternal({ dataLocation }: TensorProto): boolean {
  return dataLocation === TensorProto_DataLocation.EXTERNAL;
}

function bytesOf({ name, dims, dataType }: TensorProto): number {
  const size = ELEMENT_BYTES[dataType as TensorProto_DataType];
  if (size === undefined) throw new Error(`${name}: a weight of element type ${dataType}`);
  return size * sizeOf(dims.map(Number));
}

/** The model with all weights in it. Their fields come last, each written when its data is there. */
async function writeWhole(
  write: Write,
  model: ModelProto,
  data: (weight: TensorProto) => Promise<Uint8Array>,
): Promise<void> {
  const graph = model.graph!;
  const weights = graph.initializer.filter(isExternal);
  const fields = weights.map((weight) => {
    const { name, dims, dataType } = weight;
    const described = toBinary(TensorProtoSchema, create(TensorProtoSchema, { name, dims, dataType }));
    const length = bytesOf(weight);
    const raw = head(FIELDS.rawData, length);
    const size = described.length + raw.length + length;
    return { weight, before: [head(FIELDS.initializer, size), described, raw], length };
  });
  const inside = { ...graph, initializer: graph.initializer.filter((t) => !isExternal(t)) };
  const rest = toBinary(GraphProtoSchema, inside);
  const size = fields.reduce(
    (n, { before, length }) => before.reduce((m, part) => m + part.length, n + length),
    rest.length,
  );
  await write(toBinary(ModelProtoSchema, { ...model, graph: undefined }));
  await write(head(FIELDS.graph, size));
  await write(rest);
  for (const { weight, before } of fields) {
    for (const part of before) await write(part);
    await write(await data(weight));
  }
}

/** What stands before the bytes of a field: its number, and their number. */
function head(field: number, length: number): Uint8Array {
  return new BinaryWriter().tag(field, WireType.LengthDelimited).uint32(length).finish();
}

/** Says of each weight where it will lie, and which lie in each file of data. */
function placed(
  weights: readonly TensorProto[],
  name: string,
  maxShardBytes: number,
): Map<string, { weight: TensorProto; offset: number }[]> {
  const files = new Map<string, { weight: TensorProto; offset: number }[]>();
  let [file, end] = ['', Number.POSITIVE_INFINITY];
  for (const weight of weights) {
    const length = bytesOf(weight);
    let offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    if (offset + length > maxShardBytes) {
      file = `${name}_data${files.size === 0 ? '' : `_${files.size}`}`;
      files.set(file, []);
      offset = 0;
    }
    end = offset + length;
    files.get(file)!.push({ weight, offset });
    weight.externalData = Object.entries({ location: file, offset, length }).map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value: String(value) }),
    );
  }
  return files;
}

function fieldNumber(schema: { fields: readonly { name: string; number: number }[] }, name: string): number {
  return schema.fields.find((field) => field.name === name)!.number;
}
