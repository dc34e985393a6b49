import { readFile } from 'node:fs/promises';
import { Rng } from '../../src/base/rng.js';
import type { MicroBatch } from '../../src/train/data/batches.js';

/** Reads a token stream that the step `tokens` wrote. */
export async function readTokens(path: string): Promise<Uint16Array> {
  const bytes = await readFile(path);
  return new Uint16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

/**
 * The micro-batch of update `step`: `rows` windows of `length` tokens, every position supervised by the token
 * after it. Each epoch cuts the stream at another offset and takes the windows in another order, both
 * given by seed and epoch alone, so that a resumed run goes on where it was.
 */
export function trainingBatch(
  tokens: Uint16Array,
  { step, rows, length, seed }: { step: number; rows: number; length: number; seed: number },
): MicroBatch {
  const perEpoch = Math.floor((tokens.length - length) / (length * rows));
  const epoch = Math.floor(step / perEpoch);
  const { offset, order } = epochOrder(perEpoch * rows, length, seed, epoch);
  const first = (step % perEpoch) * rows;
  const starts = Array.from({ length: rows }, (_, i) => offset + order[first + i] * length);
  return windows(tokens, starts, length);
}

let cached: { key: string; offset: number; order: number[] } | undefined;

function epochOrder(count: number, length: number, seed: number, epoch: number) {
  const key = `${count} ${length} ${seed} ${epoch}`;
  if (cached?.key !== key) {
    const rng = new Rng(seed, `epoch ${epoch}`);
    cached = { key, offset: rng.below(length), order: rng.permutation(count) };
  }
  return cached;
}

/** Windows that begin at `starts`, as a micro-batch. */
export function windows(tokens: Uint16Array, starts: readonly number[], length: number): MicroBatch {
  const size = starts.length * length;
  const ids = new Int32Array(size);
  const targetIds = new Int32Array(size);
  for (const [row, start] of starts.entries()) {
    ids.set(tokens.subarray(start, start + length), row * length);
    targetIds.set(tokens.subarray(start + 1, start + length + 1), row * length);
  }
  const targetRows = Int32Array.from({ length: size }, (_, i) => i);
  const lengths = new Int32Array(starts.length).fill(length);
  return { ids, rows: starts.length, length, lengths, targetRows, targetIds };
}
