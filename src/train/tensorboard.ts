/** Event files as TensorBoard reads them: TFRecord frames with masked CRC-32C, each a message of proto/tensorboard. */
import { appendFile } from 'node:fs/promises';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { UserError } from '../base/errors.js';
import { exists, fileError, readFully, withFile } from '../formats/io/node.js';
import { writeFileAtomic } from '../formats/io/write.js';
import { type Event, EventSchema, SummarySchema } from '../formats/tensorboard/event_pb.js';

/** TensorBoard takes files whose name has "tfevents" in it. */
export const EVENTS_FILE = 'events.out.tfevents.lowrank';

/** Scalars of one step by tag, such as "train/loss". */
export interface ScalarEvent {
  /** Seconds since 1970. */
  wallTime: number;
  step: number;
  scalars: Readonly<Record<string, number>>;
}

/** An event file that grows. */
export class EventFile {
  private constructor(private readonly path: string) {}

  /** Begins the file anew, or goes on behind `step`: what it has beyond that goes. */
  static async open(path: string, step: number): Promise<EventFile> {
    const kept = step > 0 && (await exists(path)) ? await readEvents(path) : [];
    const what = { case: 'fileVersion', value: 'brain.Event:2' } as const;
    const version = frame(toBinary(EventSchema, create(EventSchema, { wallTime: Date.now() / 1000, what })));
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
  const values = Object.entries(scalars).map(([tag, value]) => ({
    tag,
    value: { case: 'simpleValue' as const, value },
  }));
  const what = { case: 'summary', value: create(SummarySchema, { value: values }) } as const;
  return toBinary(EventSchema, create(EventSchema, { wallTime, step: BigInt(step), what }));
}

/**
 * The scalars of an event file; a last frame cut short by a kill is left out. Throws UserError where a checksum is
 * wrong, or a record is no event.
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
    if (!event) throw new UserError(`${path}: the record at byte ${at} is no TensorBoard event`);
    if (Object.keys(event.scalars).length > 0) events.push(event);
    at = data + length + CRC_BYTES;
  }
  return events;
}

/** undefined where the bytes are no such message. */
function decodeEvent(bytes: Uint8Array): ScalarEvent | undefined {
  let event: Event;
  try {
    event = fromBinary(EventSchema, bytes);
  } catch {
    return undefined;
  }
  const { wallTime, step, what } = event;
  const values = what.case === 'summary' ? what.value.value : [];
  const scalars = values.flatMap(({ tag, value }) =>
    value.case === 'simpleValue' ? [[tag, value.value] as const] : [],
  );
  return { wallTime, step: Number(step), scalars: Object.fromEntries(scalars) };
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
