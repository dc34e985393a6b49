import { readFile } from 'node:fs/promises';
import { Rng } from '../../src/base/rng.js';
import type { MicroBatch } from '../../src/train/data/batches.js';

/** Reads a token stream that the step `tokens` wrote. */
export async function readTokens(path: string): Promise<Uint16Array> {
  const bytes = await readFile(path);
  return new Uint16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

/** What an update's windows are taken from. */
export interface Streams {
  text: Uint16Array;
  cards: Uint16Array;
}

/** Windows of an update: plain text, text in which a passage is repeated, and cards. */
export const MIX = { text: 3, repeated: 2, cards: 3 } as const;
const SHORTEST_PASSAGE = 12;
const LONGEST_PASSAGE = 64;

/**
 * The micro-batch of update `step`: windows of `length` tokens in the shares of MIX, every position supervised
 * by the token after it. Repeated passages and cards are there so that looking back pays; what came of it is in
 * assets/base/README.md. Everything follows from seed and step, so that a resumed run goes on where it was.
 */
export function trainingBatch(
  { text, cards }: Streams,
  { step, length, seed }: { step: number; length: number; seed: number },
): MicroBatch {
  const pieces = [
    ...nthWindows(text, { step, rows: MIX.text + MIX.repeated, length, seed }),
    ...nthWindows(cards, { step, rows: MIX.cards, length, seed }),
  ];
  const rng = new Rng(seed, `repeat ${step}`);
  for (let i = MIX.text; i < MIX.text + MIX.repeated; i++) {
    const passage = SHORTEST_PASSAGE + rng.below(LONGEST_PASSAGE - SHORTEST_PASSAGE + 1);
    const piece = pieces[i];
    pieces[i] = piece.map((_, at) => piece[at % passage]);
  }
  return windowBatch(pieces, length);
}

/**
 * Window after window of a stream, each with the token behind it. Each epoch cuts the stream at another
 * offset and takes the windows in another order.
 */
function nthWindows(
  tokens: Uint16Array,
  { step, rows, length, seed }: { step: number; rows: number; length: number; seed: number },
): Uint16Array[] {
  const perEpoch = Math.floor((tokens.length - length - 1) / (length * rows));
  const { offset, order } = epochOrder(perEpoch * rows, length, seed, Math.floor(step / perEpoch));
  const first = (step % perEpoch) * rows;
  return Array.from({ length: rows }, (_, i) => {
    const start = offset + order[first + i] * length;
    return tokens.slice(start, start + length + 1);
  });
}

const orders = new Map<string, { offset: number; order: number[] }>();

function epochOrder(count: number, length: number, seed: number, epoch: number) {
  const key = `${count} ${length} ${seed} ${epoch}`;
  let found = orders.get(key);
  if (found === undefined) {
    const rng = new Rng(seed, `epoch ${epoch}`);
    found = { offset: rng.below(length), order: rng.permutation(count) };
    orders.set(key, found);
  }
  return found;
}

/** Windows of length + 1 tokens as a micro-batch. */
export function windowBatch(pieces: readonly Uint16Array[], length: number): MicroBatch {
  const size = pieces.length * length;
  const ids = new Int32Array(size);
  const targetIds = new Int32Array(size);
  for (const [row, piece] of pieces.entries()) {
    ids.set(piece.subarray(0, length), row * length);
    targetIds.set(piece.subarray(1, length + 1), row * length);
  }
  const lengths = new Int32Array(pieces.length).fill(length);
  const targetRows = Int32Array.from({ length: size }, (_, i) => i);
  return { ids, rows: pieces.length, length, lengths, targetRows, targetIds };
}
