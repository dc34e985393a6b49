/** Unigram (SentencePiece): the cut of a text whose tokens have the largest sum of scores. */
import * as z from 'zod';
import { MAX_TOKEN_ID, type Model, UnknownToken } from './model.js';

/** What an unknown character costs more than the least likely token. */
const UNKNOWN_PENALTY = 10;

/** Tokens in order, so that those which begin a text are found unit by unit. */
class SortedTokens {
  private readonly sorted: readonly { token: string; id: number }[];
  /** The range of tokens by their first UTF-16 unit. */
  private readonly byFirst = new Map<number, { start: number; end: number }>();

  constructor(ids: ReadonlyMap<string, number>) {
    this.sorted = Array.from(ids, ([token, id]) => ({ token, id })).sort((a, b) =>
      a.token < b.token ? -1 : 1,
    );
    for (const [i, { token }] of this.sorted.entries()) {
      if (token === '') continue;
      const range = this.byFirst.get(token.charCodeAt(0));
      if (range === undefined) this.byFirst.set(token.charCodeAt(0), { start: i, end: i + 1 });
      else range.end = i + 1;
    }
  }

  /** Calls `found` with the end and the id of each token that stands at `start`, the shortest first. */
  at(text: string, start: number, found: (end: number, id: number) => void): void {
    const range = this.byFirst.get(text.charCodeAt(start));
    if (range === undefined) return;
    let { start: low, end: high } = range;
    for (let depth = 1; low < high; depth++) {
      const { token, id } = this.sorted[low];
      if (token.length === depth) {
        found(start + depth, id);
        low++;
      }
      if (start + depth >= text.length) return;
      const unit = text.charCodeAt(start + depth);
      const from = this.bound(low, high, depth, unit);
      high = this.bound(from, high, depth, unit + 1);
      low = from;
    }
  }

  /** The first of the tokens `low` to `high` whose unit at `depth` is not below `unit`. */
  private bound(low: number, high: number, depth: number, unit: number): number {
    let [from, to] = [low, high];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.sorted[middle].token.charCodeAt(depth) < unit) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

interface UnigramParts {
  vocab: readonly (readonly [string, number])[];
  unk_id?: number | null;
  byte_fallback: boolean;
}

class Unigram implements Model {
  readonly size: number;
  readonly end: number;
  private readonly ids: ReadonlyMap<string, number>;
  private readonly tokens: SortedTokens;
  private readonly unknownScore: number;

  constructor(private readonly parts: UnigramParts) {
    this.size = parts.vocab.length;
    this.end = parts.vocab.length;
    this.ids = new Map(parts.vocab.map(([token], id) => [token, id]));
    this.tokens = new SortedTokens(this.ids);
    let least = Infinity;
    for (const [, score] of parts.vocab) least = Math.min(least, score);
    this.unknownScore = least - UNKNOWN_PENALTY;
  }

  encode(piece: string, ids: number[]): void {
    for (const token of this.cut(piece)) this.push(token, ids);
  }

  /** The best cut; unknown characters that follow one another stay together. */
  private cut(text: string): string[] {
    const { length } = text;
    const scores = new Float64Array(length + 1);
    /** Where the best token that ends here starts, and its id; -1 where none ends. */
    const starts = new Int32Array(length + 1).fill(-1);
    const best = new Int32Array(length + 1);
    const offer = (start: number, end: number, id: number, score: number) => {
      if (starts[end] !== -1 && !(score > scores[end])) return;
      scores[end] = score;
      starts[end] = start;
      best[end] = id;
    };
    for (let start = 0; start < length; ) {
      const next = start + (text.codePointAt(start)! > 0xffff ? 2 : 1);
      const before = scores[start];
      let single = false;
      this.tokens.at(text, start, (end, id) => {
        offer(start, end, id, this.parts.vocab[id][1] + before);
        single ||= end === next;
      });
      if (!single) offer(start, next, this.unknown(), this.unknownScore + before);
      start = next;
    }
    const tokens: string[] = [];
    let unknown = '';
    for (let end = length; end > 0; end = starts[end]) {
      const token = text.slice(starts[end], end);
      if (best[end] === this.parts.unk_id) {
        unknown = token + unknown;
        continue;
      }
      if (unknown !== '') tokens.push(unknown);
      unknown = '';
      tokens.push(token);
    }
    if (unknown !== '') tokens.push(unknown);
    return tokens.reverse();
  }

  private push(token: string, ids: number[]): void {
    const id = this.ids.get(token);
    if (id !== undefined) {
      ids.push(id);
      return;
    }
    if (this.parts.byte_fallback) {
      const bytes = Array.from(new TextEncoder().encode(token), (byte) => this.ids.get(byteToken(byte)));
      if (bytes.every((byte) => byte !== undefined)) {
        ids.push(...bytes);
        return;
      }
    }
    ids.push(this.unknown());
  }

  private unknown(): number {
    const { unk_id } = this.parts;
    if (unk_id === undefined || unk_id === null) throw new UnknownToken('the model has no unk_id');
    return unk_id;
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  tokenOf(id: number): string | undefined {
    return this.parts.vocab[id]?.[0];
  }
}

/** The token of a byte, `<0x0A>`. */
export function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}

export const unigramSchema = z
  .looseObject({
    vocab: z.array(z.tuple([z.string(), z.number()])).max(MAX_TOKEN_ID),
    unk_id: z.int().min(0).nullish(),
    byte_fallback: z.boolean().default(false),
  })
  .refine(({ vocab, unk_id }) => (unk_id ?? -1) < vocab.length, {
    path: ['unk_id'],
    error: 'expected the index of a token of the vocabulary',
  })
  .transform((parts): Model => new Unigram(parts));
