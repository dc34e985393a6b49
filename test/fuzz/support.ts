/** What the fuzz suites share: seeded mutations, files in memory, and what one case may cost. */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'vitest';
import { UserError } from '../../src/base/errors.js';
import type { Rng } from '../../src/base/rng.js';
import type { ByteSource } from '../../src/formats/io/node.js';

/** A number in a file that says how much of something there is, or where, or of which kind. */
export interface Field {
  at: number;
  /** Bytes. */
  width: 4 | 8;
}

/** Numbers at which parsers break: limits of types, of doubles, of arrays. */
const EDGES = [
  ...[0n, 1n, 2n, 3n, 7n, 8n, 9n, 13n, 31n, 32n, 33n, 255n, 256n, 65535n, 65536n],
  ...[24n, 28n, 30n, 31n, 32n, 33n, 40n, 48n, 52n, 53n, 62n, 63n].map((bits) => 2n ** bits),
  ...[31n, 32n, 53n, 63n, 64n].map((bits) => 2n ** bits - 1n),
];

/** One of `items`. */
export function pick<T>(rng: Rng, items: readonly T[]): T {
  return items[rng.below(items.length)];
}

/**
 * `bytes` with one to three changes: flipped bits, other bytes, edges in one of `fields`, a piece cut out, repeated or
 * cut off behind. Most fall below `headerEnd`.
 */
export function mutateBytes(
  rng: Rng,
  bytes: Uint8Array,
  headerEnd: number,
  fields: readonly Field[],
): Uint8Array {
  let out = Uint8Array.from(bytes);
  for (let changes = 1 + rng.below(3); changes > 0 && out.length > 0; changes--) {
    const at = rng.below(rng.below(8) === 0 ? out.length : Math.min(headerEnd, out.length));
    const kind = rng.below(12);
    if (kind < 3) out[at] ^= 1 << rng.below(8);
    else if (kind < 5) out[at] = pick(rng, [0, 1, 8, 9, 10, 0x7f, 0x80, 0xff]);
    else if (kind < 9 && fields.length > 0) writeEdge(rng, out, pick(rng, fields));
    else if (kind === 9) out = out.slice(0, at);
    else {
      const end = Math.min(out.length, at + 1 + rng.below(64));
      const parts =
        kind === 10 ? [out.subarray(0, at), out.subarray(end)] : [out.subarray(0, end), out.subarray(at)];
      out = Uint8Array.from(Buffer.concat(parts));
    }
  }
  return out;
}

function writeEdge(rng: Rng, bytes: Uint8Array, { at, width }: Field): void {
  if (at + width > bytes.length) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const old = width === 8 ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true));
  const near = [old + 1n, old - 1n, old * 2n, old + 32n, BigInt(bytes.length), BigInt(bytes.length - at)];
  const value = BigInt.asUintN(64, rng.below(3) === 0 ? pick(rng, near) : pick(rng, EDGES));
  if (width === 8) view.setBigUint64(at, value, true);
  else view.setUint32(at, Number(BigInt.asUintN(32, value)), true);
}

/** A JSON text with one to three changes: numbers, strings, keys, brackets, pieces. */
export function mutateJson(rng: Rng, text: string): string {
  let out = text;
  for (let changes = 1 + rng.below(3); changes > 0; changes--) {
    const kind = rng.below(8);
    if (kind < 3) out = replaceOne(rng, out, /-?\d+(?:\.\d+)?(?:e-?\d+)?/g, () => pick(rng, NUMBERS));
    else if (kind < 5)
      out = replaceOne(rng, out, /"(?:[^"\\]|\\.)*"/g, (old) =>
        pick(rng, [...VALUES, old.replace(/.$/, 'x"')]),
      );
    else if (kind === 5) out = replaceOne(rng, out, /true|false|null|\[\]|\{\}/g, () => pick(rng, VALUES));
    else {
      const at = rng.below(out.length + 1);
      const end = Math.min(out.length, at + rng.below(40));
      out = kind === 6 ? out.slice(0, at) + out.slice(end) : out.slice(0, end) + out.slice(at);
    }
  }
  return out;
}

const NUMBERS = [
  '0',
  '-1',
  '1',
  '7',
  '0.5',
  '1e3',
  '1e999',
  '-0',
  '2147483648',
  '4294967296',
  '9007199254740993',
  '1e16',
  '1e-400',
];
const VALUES = [
  ...NUMBERS,
  ...[
    'null',
    'true',
    '""',
    '[]',
    '{}',
    '[[]]',
    '{"a":1}',
    '"F32"',
    '"__proto__"',
    '"constructor"',
    '"a.b"',
    '"("',
    '"(a+)+$"',
  ],
  ...[
    '"\\ud800"',
    '"\\u0000"',
    '"../x"',
    `"${'x'.repeat(2000)}"`,
    '['.repeat(300),
    `${'['.repeat(250)}${']'.repeat(250)}`,
  ],
];

function replaceOne(rng: Rng, text: string, pattern: RegExp, by: (old: string) => string): string {
  const found = [...text.matchAll(pattern)];
  if (found.length === 0) return text;
  const { index, 0: old } = pick(rng, found);
  return text.slice(0, index) + by(old) + text.slice(index + old.length);
}

/** Bytes in memory, read as a file is. */
export class Memory implements ByteSource {
  constructor(readonly bytes: Uint8Array) {}

  async read(
    target: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesRead: number }> {
    const piece = this.bytes.subarray(position, position + length);
    target.set(piece, offset);
    return { bytesRead: piece.length };
  }
}

/** A case takes a tenth of a millisecond; a machine that does other work may stall. */
const MAX_MS = 5000;

/** How the cases of a suite ended, and the worst of them. */
export class Tally {
  accepted = 0;
  refused = 0;

  /**
   * @param fixed bytes that a case may allocate whatever its size; @param factor and how many a byte of the file.
   */
  constructor(
    private readonly fixed = 1 << 20,
    private readonly factor = 32,
  ) {}

  /**
   * Runs one case. It has to end in time, with a result or a UserError of readable length, and without allocating more
   * than the file's size allows. `tell` describes the case in the failure.
   */
  async run(size: number, tell: () => string, use: () => unknown): Promise<void> {
    const limit = this.fixed + this.factor * size;
    let cost = await this.measure(tell, use);
    if (cost.error === undefined) this.accepted++;
    else this.refused++;
    // The heap also holds what V8 itself compiles and moves now and then: a claim gone wrong does it each time.
    for (let again = 0; again < 3 && (cost.bytes > limit || cost.ms > MAX_MS); again++) {
      collect();
      cost = await this.measure(tell, use);
    }
    if (cost.ms > MAX_MS) throw new Error(`${tell()}: took ${cost.ms.toFixed(0)} ms`);
    if (cost.bytes > limit) throw new Error(`${tell()}: ${cost.bytes} bytes allocated for a file of ${size}`);
  }

  private async measure(
    tell: () => string,
    use: () => unknown,
  ): Promise<{ ms: number; bytes: number; error?: UserError }> {
    const before = allocated();
    const started = performance.now();
    let error: unknown;
    try {
      await use();
    } catch (thrown) {
      error = thrown;
    }
    const ms = performance.now() - started;
    // A collection in between hides what it freed; a claim gone wrong would be far larger than that.
    const bytes = allocated() - before;
    if (error === undefined) return { ms, bytes };
    if (!(error instanceof UserError)) {
      throw new Error(`${tell()}: ${error instanceof Error ? error.stack : String(error)}`);
    }
    const { message } = error;
    if (message.length > 1000 || /\n\s+at /.test(message)) throw new Error(`${tell()}: "${message}"`);
    return { ms, bytes, error };
  }

  /** Both ends have to occur, else the mutations test nothing. */
  expectBoth(least: number): void {
    expect(Math.min(this.accepted, this.refused)).toBeGreaterThan(least);
  }
}

setFlagsFromString('--expose-gc');
/** Takes garbage away, so that what a case allocates is not set off against what an earlier one did. */
const collect = runInNewContext('gc') as () => void;

/** Bytes of the heap and of buffers, garbage with it. */
function allocated(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}
