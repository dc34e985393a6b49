/**
 * Event files as TensorBoard reads them: TFRecord frames with masked CRC-32C, each a protobuf message `Event`
 * (tensorflow/core/util/event.proto), of which scalars need six fields.
 */
import { appendFile } from 'node:fs/promises';
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { UserError } from '../base/errors.js';
import { exists, fileError, readFully, withFile, writeFileAtomic } from '../formats/io/node.js';

/** TensorBoard takes files whose name has "tfevents" in it. */
export const EVENTS_FILE = 'events.out.tfevents.lowrank';

/** Scalars of one step by tag, such as "train/loss". */
export interface ScalarEvent {
  /** Seconds since 1970. */
  wallTime: number;
  step: number;
  scalars: Readonly<Record<string, number>>;
}

const Fields = { wallTime: 1, step: 2, fileVersion: 3, summary: 5 } as const;
const VALUE = 1;
const ValueFields = { tag: 1, simpleValue: 2 } as const;

/** An event file that grows. */
export class EventFile {
  private constructor(private readonly path: string) {}

  /** Begins the file anew, or goes on behind `step`: what it has beyond that goes. */
  static async open(path: string, step: number): Promise<EventFile> {
    const kept = step > 0 && (await exists(path)) ? await readEvents(path) : [];
    const version = frame(
      new BinaryWriter()
        .tag(Fields.wallTime, WireType.Bit64)
        .double(Date.now() / 1000)
        .tag(Fields.fileVersion, WireType.LengthDelimited)
        .string('brain.Event:2')
        .finish(),
    );
    const frames = kept.filter((event) => event.step <= step).map((event) => frame(encodeEvent(event)));
    await writeFileAtomic(path, Buffer.concat([version, ...frames]));
    return new EventFile(path);
  }

  async add(step: number, scalars: Readonly<Record<string, number>>): Promise<void> {
    const event = { wallTime: Date.now() / 1000, step, scalars };
    await appendFile(this.path, frame(encodeEvent(event))).catch((error: unknown) => {
      throw fileError('write', this.path, error);
    });
  }
}

function encodeEvent({ wallTime, step, scalars }: ScalarEvent): Uint8Array {
  const writer = new BinaryWriter()
    .tag(Fields.wallTime, WireType.Bit64)
    .double(wallTime)
    .tag(Fields.step, WireType.Varint)
    .int64(step)
    .tag(Fields.summary, WireType.LengthDelimited)
    .fork();
  for (const [tag, value] of Object.entries(scalars)) {
    writer
      .tag(VALUE, WireType.LengthDelimited)
      .fork()
      .tag(ValueFields.tag, WireType.LengthDelimited)
      .string(tag)
      .tag(ValueFields.simpleValue, WireType.Bit32)
      .float(value)
      .join();
  }
  return writer.join().finish();
}

/**
 * The scalars of an event file; a last frame cut short by a kill is left out. Throws UserError where a checksum is
 * wrong.
 */
export async function readEvents(path: string): Promise<ScalarEvent[]> {
  const bytes = await withFile(path, async (file, size) => {
    const target = new Uint8Array(size);
    await readFully(file, path, target, 0);
    return target;
  });
  const view = new DataView(bytes.buffer);
  const events: ScalarEvent[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const length = Number(view.getBigUint64(at, true));
    const data = at + HEADER_BYTES;
    const sound = view.getUint32(at + 8, true) === maskedCrc(bytes.subarray(at, at + 8));
    if (sound && data + length + CRC_BYTES > bytes.length) break;
    const content = bytes.subarray(data, data + length);
    if (!sound || view.getUint32(data + length, true) !== maskedCrc(content)) {
      throw new UserError(`${path}: the record at byte ${at} has a wrong checksum`);
    }
    const event = decodeEvent(content);
    if (Object.keys(event.scalars).length > 0) events.push(event);
    at = data + length + CRC_BYTES;
  }
  return events;
}

function decodeEvent(bytes: Uint8Array): ScalarEvent {
  const event = { wallTime: 0, step: 0, scalars: {} as Record<string, number> };
  eachField(new BinaryReader(bytes), bytes.length, (field, reader) => {
    if (field === Fields.wallTime) event.wallTime = reader.double();
    else if (field === Fields.step) event.step = Number(reader.int64());
    else if (field === Fields.summary) {
      eachField(reader, reader.uint32(), (part, inner) => {
        if (part !== VALUE) return false;
        let [tag, value] = ['', 0];
        eachField(inner, inner.uint32(), (key, own) => {
          if (key === ValueFields.tag) tag = own.string();
          else if (key === ValueFields.simpleValue) value = own.float();
          else return false;
          return true;
        });
        event.scalars[tag] = value;
        return true;
      });
    } else return false;
    return true;
  });
  return event;
}

/** Calls `take` for each field of a message of `length` bytes; what it does not take is skipped. */
function eachField(
  reader: BinaryReader,
  length: number,
  take: (field: number, reader: BinaryReader) => boolean,
): void {
  for (const end = reader.pos + length; reader.pos < end; ) {
    const [field, type] = reader.tag();
    if (!take(field, reader)) reader.skip(type, field);
  }
}

const CRC_BYTES = 4;
/** Length (uint64) and its checksum. */
const HEADER_BYTES = 8 + CRC_BYTES;

function frame(data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + data.length + CRC_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc(bytes.subarray(0, 8)), true);
  bytes.set(data, HEADER_BYTES);
  view.setUint32(HEADER_BYTES + data.length, maskedCrc(data), true);
  return bytes;
}

/** CRC-32C, reflected, by a table of bytes. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Rotated and shifted, so that a checksum of data that holds checksums is of use (TFRecord). */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
