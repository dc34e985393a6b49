/** Models that look words up: WordLevel a whole word, WordPiece its longest known beginnings. */
import * as z from 'zod';
import { type Model, type Vocabulary, vocabSchema } from './model.js';

export const wordLevelSchema = z.looseObject({ vocab: vocabSchema, unk_token: z.string() }).transform(
  ({ vocab, unk_token }): Model => ({
    size: vocab.size,
    end: vocab.end,
    encode: (piece, ids) => {
      ids.push(vocab.idOf(piece) ?? vocab.unknown(unk_token));
    },
    idOf: (token) => vocab.idOf(token),
    tokenOf: (id) => vocab.tokenOf(id),
  }),
);

interface WordPieceParts {
  vocab: Vocabulary;
  unk_token: string;
  continuing_subword_prefix: string;
  max_input_chars_per_word: number;
}

class WordPiece implements Model {
  readonly size: number;
  readonly end: number;
  /** No token is longer. */
  private readonly longest: number;

  constructor(private readonly parts: WordPieceParts) {
    this.size = parts.vocab.size;
    this.end = parts.vocab.end;
    let longest = 0;
    for (const token of parts.vocab.ids.keys()) longest = Math.max(longest, token.length);
    this.longest = longest;
  }

  encode(piece: string, ids: number[]): void {
    const found = [...piece].length > this.parts.max_input_chars_per_word ? undefined : this.pieces(piece);
    if (found === undefined) ids.push(this.parts.vocab.unknown(this.parts.unk_token));
    else ids.push(...found);
  }

  /** Undefined when a part of the word has no token: then the whole word is unknown. */
  private pieces(word: string): number[] | undefined {
    const { vocab, continuing_subword_prefix } = this.parts;
    const ids: number[] = [];
    for (let start = 0; start < word.length; ) {
      const prefix = start === 0 ? '' : continuing_subword_prefix;
      let end = Math.min(word.length, start + this.longest);
      let id: number | undefined;
      for (; end > start; end--) {
        id = vocab.idOf(prefix + word.slice(start, end));
        if (id !== undefined) break;
      }
      if (id === undefined) return undefined;
      ids.push(id);
      start = end;
    }
    return ids;
  }

  idOf(token: string): number | undefined {
    return this.parts.vocab.idOf(token);
  }

  tokenOf(id: number): string | undefined {
    return this.parts.vocab.tokenOf(id);
  }
}

export const wordPieceSchema = z
  .looseObject({
    vocab: vocabSchema,
    unk_token: z.string(),
    continuing_subword_prefix: z.string(),
    max_input_chars_per_word: z.int().min(0),
  })
  .transform((parts): Model => new WordPiece(parts));
