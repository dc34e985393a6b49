/** Byte pair encoding: characters are merged in the order in which the merges stand in the file. */
import * as z from 'zod';
import { type Model, type Vocabulary, vocabSchema } from './model.js';
import { byteToken } from './unigram.js';

interface BpeParts {
  vocab: Vocabulary;
  merges: Merges;
  unk_token?: string | null;
  continuing_subword_prefix?: string | null;
  end_of_word_suffix?: string | null;
  fuse_unk: boolean;
  byte_fallback: boolean;
  ignore_merges: boolean;
}

/** Pairs of ids to their rank and to the id of what they make. */
class Merges {
  private readonly ranks = new Map<number, number>();
  private readonly results: number[] = [];

  constructor(private readonly end: number) {}

  add(left: number, right: number, result: number): void {
    // A pair that stands there twice has the later rank.
    this.ranks.set(left * this.end + right, this.results.length);
    this.results.push(result);
  }

  /** Undefined when the pair is not merged. */
  rank(left: number, right: number): number | undefined {
    return this.ranks.get(left * this.end + right);
  }

  result(rank: number): number {
    return this.results[rank];
  }
}

/** Pieces longer than this are not kept, and no more than so many. */
const MAX_KEPT_LENGTH = 256;
const MAX_KEPT = 1 << 15;

class Bpe implements Model {
  readonly size: number;
  readonly end: number;
  private readonly kept = new Map<string, readonly number[]>();

  constructor(private readonly parts: BpeParts) {
    this.size = parts.vocab.size;
    this.end = parts.vocab.end;
  }

  encode(piece: string, ids: number[]): void {
    let found = this.kept.get(piece);
    if (found === undefined) {
      const whole = this.parts.ignore_merges ? this.parts.vocab.idOf(piece) : undefined;
      found = whole === undefined ? this.merge(this.symbols(piece)) : [whole];
      if (piece.length <= MAX_KEPT_LENGTH) {
        if (this.kept.size >= MAX_KEPT) this.kept.clear();
        this.kept.set(piece, found);
      }
    }
    for (const id of found) ids.push(id);
  }

  /** The ids of the characters. */
  private symbols(word: string): number[] {
    const { vocab, unk_token, byte_fallback, fuse_unk } = this.parts;
    const prefix = this.parts.continuing_subword_prefix ?? '';
    const suffix = this.parts.end_of_word_suffix ?? '';
    const ids: number[] = [];
    /** An unknown token that is not yet among `ids`: it comes before the next known character, or at the end. */
    let pending: number | undefined;
    let at = 0;
    for (const character of word) {
      const before = at === 0 ? '' : prefix;
      at += character.length;
      const symbol = before + character + (at === word.length ? suffix : '');
      const id = vocab.idOf(symbol);
      if (id !== undefined) {
        if (pending !== undefined) ids.push(pending);
        pending = undefined;
        ids.push(id);
        continue;
      }
      if (byte_fallback) {
        const bytes = Array.from(new TextEncoder().encode(symbol), (byte) => vocab.idOf(byteToken(byte)));
        if (bytes.every((byte) => byte !== undefined)) {
          ids.push(...bytes);
          continue;
        }
      }
      // Without an unknown token such characters are left out.
      if (unk_token === undefined || unk_token === null) continue;
      if (pending !== undefined && !fuse_unk) ids.push(pending);
      pending = vocab.unknown(unk_token);
    }
    if (pending !== undefined) ids.push(pending);
    return ids;
  }

  /** Merges the pair of the lowest rank, of equal ones the first, until no pair is left. Changes `ids`. */
  private merge(ids: number[]): number[] {
    const { merges } = this.parts;
    const { length } = ids;
    // The symbols are a list: at each place that is left the id, and the places beside it.
    const next = Int32Array.from({ length }, (_, i) => (i + 1 < length ? i + 1 : -1));
    const before = Int32Array.from({ length }, (_, i) => i - 1);
    const queue = new Queue(length);
    const offer = (left: number, right: number) => {
      const rank = merges.rank(ids[left], ids[right]);
      if (rank !== undefined) queue.push(rank, left);
    };
    for (let i = 0; i + 1 < length; i++) offer(i, i + 1);
    for (let top = queue.pop(); top !== undefined; top = queue.pop()) {
      const { rank, place } = top;
      const right = next[place];
      // What stood there when it was offered may have been merged since.
      if (ids[place] < 0 || right < 0 || merges.rank(ids[place], ids[right]) !== rank) continue;
      ids[place] = merges.result(rank);
      ids[right] = -1;
      next[place] = next[right];
      if (next[place] >= 0) before[next[place]] = place;
      if (before[place] >= 0) offer(before[place], place);
      if (next[place] >= 0) offer(place, next[place]);
    }
    return ids.filter((id) => id >= 0);
  }

  idOf(token: string): number | undefined {
    return this.parts.vocab.idOf(token);
  }

  tokenOf(id: number): string | undefined {
    return this.parts.vocab.tokenOf(id);
  }
}

/** A heap of ranks and places, the lowest first. */
class Queue {
  /** rank × places + place. */
  private readonly heap: number[] = [];

  constructor(private readonly places: number) {}

  push(rank: number, place: number): void {
    const { heap } = this;
    const value = rank * this.places + place;
    let at = heap.length;
    heap.push(value);
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (heap[up] <= value) break;
      heap[at] = heap[up];
      at = up;
    }
    heap[at] = value;
  }

  pop(): { rank: number; place: number } | undefined {
    const { heap } = this;
    const top = heap[0];
    if (top === undefined) return undefined;
    const last = heap.pop()!;
    if (heap.length > 0) {
      let at = 0;
      for (;;) {
        let down = 2 * at + 1;
        if (down >= heap.length) break;
        if (down + 1 < heap.length && heap[down + 1] < heap[down]) down++;
        if (heap[down] >= last) break;
        heap[at] = heap[down];
        at = down;
      }
      heap[at] = last;
    }
    const place = top % this.places;
    return { rank: (top - place) / this.places, place };
  }
}

const mergesSchema = z.union([z.array(z.tuple([z.string(), z.string()])), z.array(z.string())], {
  error: 'expected a list of pairs of tokens',
});

export const bpeSchema = z
  .looseObject({
    vocab: vocabSchema,
    merges: mergesSchema,
    unk_token: z.string().nullish(),
    continuing_subword_prefix: z.string().nullish(),
    end_of_word_suffix: z.string().nullish(),
    fuse_unk: z.boolean().nullish(),
    byte_fallback: z.boolean().nullish(),
    ignore_merges: z.boolean().nullish(),
    dropout: z.number().nullish(),
  })
  .transform((json, context): Model => {
    const fail = (path: (string | number)[], message: string) => {
      context.addIssue({ code: 'custom', path, message });
      return z.NEVER;
    };
    if ((json.dropout ?? 0) !== 0) {
      return fail(
        ['dropout'],
        `${json.dropout} gives other tokens each time, which is not supported: expected null`,
      );
    }
    const { vocab } = json;
    const prefix = json.continuing_subword_prefix ?? '';
    const merges = new Merges(vocab.end);
    for (const [i, merge] of json.merges.entries()) {
      if (typeof merge === 'string' && merge.startsWith('#version')) continue;
      const pair = typeof merge === 'string' ? merge.split(' ') : merge;
      const [left, right] = pair;
      const made = left + (right ?? '').slice(prefix.length);
      const ids = [left, right, made].map((token) => vocab.idOf(token));
      const continues = pair.length === 2 && right.startsWith(prefix);
      if (!continues || ids.includes(undefined))
        return fail(['merges', i], `${JSON.stringify(merge)} is no pair of tokens that makes a token`);
      merges.add(ids[0]!, ids[1]!, ids[2]!);
    }
    return new Bpe({
      ...json,
      merges,
      fuse_unk: json.fuse_unk ?? false,
      byte_fallback: json.byte_fallback ?? false,
      ignore_merges: json.ignore_merges ?? false,
    });
  });
