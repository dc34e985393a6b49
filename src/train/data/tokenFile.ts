/**
 * Encoded examples in a file, read by their number: only an index of 16 bytes an example is in memory. The file is a
 * cache of this machine, in its byte order: the tokens, a target's with its sign bit set; each example's length; each
 * one's row; a JSON footer; the footer's length.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { parseJson } from '../../formats/io/json.js';
import { fileError } from '../../formats/io/node.js';
import { writeStreamAtomic } from '../../formats/io/write.js';
import type { EncodeStats, Example } from './encode.js';
import type { ExampleSource } from './source.js';

/** Goes up with each change of what is kept, and of what rows become: files of another are made anew. */
const VERSION = 4;
const TARGET = 1 << 31;
/** Tokens are written in pieces of this many. */
const BUFFER_TOKENS = 2 ** 18;
const MAX_FOOTER_BYTES = 2 ** 16;

const count = z.int().nonnegative();
const footerSchema = z.object({
  version: z.literal(VERSION),
  stats: z.object({
    rows: count,
    examples: count,
    truncated: count,
    dropped: count,
    unanswered: count,
    unended: count,
    startedTwice: count,
    alike: count,
    cutTurns: count,
    unread: z.array(z.string()),
    empty: count,
    tokens: count,
    supervisedTokens: count,
    longest: count,
  }),
});

/** Writes examples as they come, whole or not at all. */
export function writeTokenFile(
  path: string,
  examples: AsyncIterator<Example, EncodeStats, void>,
): Promise<void> {
  return writeStreamAtomic(path, async (write) => {
    const buffer = new Int32Array(BUFFER_TOKENS);
    const lengths = new Uint32List();
    const lines = new Uint32List();
    let filled = 0;
    const flush = async () => {
      await write(bytesOf(buffer.subarray(0, filled)));
      filled = 0;
    };
    for (;;) {
      const next = await examples.next();
      if (next.done) {
        await flush();
        await write(bytesOf(lengths.values()));
        await write(bytesOf(lines.values()));
        const footer = Buffer.from(JSON.stringify({ version: VERSION, stats: next.value }));
        await write(footer);
        await write(bytesOf(Uint32Array.of(footer.length)));
        return;
      }
      const { ids, supervised, line } = next.value;
      lengths.push(ids.length);
      lines.push(line);
      for (let t = 0; t < ids.length; t++) {
        if (filled === BUFFER_TOKENS) await flush();
        buffer[filled++] = supervised[t] === 1 ? ids[t] | TARGET : ids[t];
      }
    }
  });
}

/** The examples of a file that writeTokenFile wrote. Reading is synchronous: a batch is a few kilobytes. */
export class TokenFile implements ExampleSource {
  /** Where each example begins, in tokens. */
  private readonly starts: Float64Array;

  private constructor(
    private readonly path: string,
    private readonly descriptor: number,
    readonly stats: EncodeStats,
    readonly lengths: Uint32Array,
    private readonly lines: Uint32Array,
  ) {
    this.starts = new Float64Array(lengths.length);
    for (let i = 1; i < lengths.length; i++) this.starts[i] = this.starts[i - 1] + lengths[i - 1];
  }

  /** Throws UserError where the file is not whole. */
  static async open(path: string): Promise<TokenFile> {
    const size = await stat(path).then(
      (info) => info.size,
      (error: unknown) => {
        throw fileError('read', path, error);
      },
    );
    const descriptor = openSync(path, 'r');
    try {
      const whole = (fits: boolean) => {
        if (!fits) throw new UserError(`${path} is not a whole file of tokens`);
      };
      const read = <T extends Uint32Array | Uint8Array>(target: T, position: number): T => {
        whole(position >= 0 && position + target.byteLength <= size);
        readAt(descriptor, path, target, position);
        return target;
      };
      const [footerBytes] = read(new Uint32Array(1), size - 4);
      whole(footerBytes <= MAX_FOOTER_BYTES);
      const footerAt = size - 4 - footerBytes;
      const json = parseJson(path, read(new Uint8Array(footerBytes), footerAt));
      const footer = footerSchema.safeParse(json);
      whole(footer.success);
      const { stats } = footer.data!;
      whole(footerAt === 4 * stats.tokens + 8 * stats.examples);
      const lengths = read(new Uint32Array(stats.examples), 4 * stats.tokens);
      const lines = read(new Uint32Array(stats.examples), 4 * (stats.tokens + stats.examples));
      whole(lengths.reduce((sum, length) => sum + length, 0) === stats.tokens);
      return new TokenFile(path, descriptor, stats, lengths, lines);
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  get length(): number {
    return this.lengths.length;
  }

  at(index: number): Example | undefined {
    if (!(index in this.lengths)) return undefined;
    const ids = new Int32Array(this.lengths[index]);
    readAt(this.descriptor, this.path, ids, 4 * this.starts[index]);
    const supervised = Uint8Array.from(ids, (id) => Number(id < 0));
    for (let t = 0; t < ids.length; t++) ids[t] &= ~TARGET;
    return { ids, supervised, line: this.lines[index] };
  }

  *[Symbol.iterator](): Generator<Example> {
    for (let i = 0; i < this.length; i++) yield this.at(i)!;
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

function readAt(
  descriptor: number,
  path: string,
  target: Int32Array | Uint32Array | Uint8Array,
  position: number,
): void {
  const bytes = bytesOf(target);
  for (let done = 0; done < bytes.length; ) {
    const got = readSync(descriptor, bytes, done, bytes.length - done, position + done);
    if (got === 0)
      throw new UserError(`${path} is shorter than it was: something cut it while it was in use`);
    done += got;
  }
}

function bytesOf(array: Int32Array | Uint32Array | Uint8Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** A list that grows, four bytes an item. */
class Uint32List {
  private items = new Uint32Array(1024);
  private size = 0;

  push(value: number): void {
    if (this.size === this.items.length) {
      const grown = new Uint32Array(2 * this.size);
      grown.set(this.items);
      this.items = grown;
    }
    this.items[this.size++] = value;
  }

  values(): Uint32Array {
    return this.items.subarray(0, this.size);
  }
}
