/** The decoders of tokenizer.json: what text the tokens of an answer make. */
import * as z from 'zod';
import { pushBytes } from './bytes.js';
import { replaceAll } from './normalizers.js';
import { character, checkLength, type PartTable, partSchema } from './parts.js';
import { type Pattern, patternSchema } from './patterns.js';
import { byteLevelSchema, metaspaceSchema } from './preTokenizers.js';

export interface Decoder {
  /**
   * What the tokens become; in the end all are joined.
   * @param limit how many characters the whole text may have.
   */
  decode(tokens: readonly string[], limit: number): readonly string[];
  /** Whether the text of tokens that end with `token` may still change when more follow. Default: it never does. */
  isOpen?(token: string): boolean;
  readonly patterns?: readonly Pattern[];
  /** Whether it makes one text of all tokens. */
  readonly fuses?: boolean;
  /** Whether what it makes of a text goes on when the text does. Asked of decoders behind one that fuses. */
  readonly goesOn?: boolean;
}

const each = (change: (token: string, index: number, all: readonly string[]) => string): Decoder => ({
  decode: (tokens) => tokens.map(change),
});

/** A byte order mark is a character like any other. */
const lossy = new TextDecoder('utf-8', { ignoreBOM: true });
const strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

/** What bytes that are no UTF-8 become. */
const REPLACEMENT = '\ufffd';

const byteLevel: Decoder = {
  fuses: true,
  decode(tokens) {
    const bytes: number[] = [];
    for (const token of tokens) {
      if (!pushBytes(bytes, token)) for (const byte of new TextEncoder().encode(token)) bytes.push(byte);
    }
    return [lossy.decode(Uint8Array.from(bytes))];
  },
};

/** The byte that a token like `<0x0A>` stands for; undefined for other tokens. As Rust reads the two digits. */
function byteOf(token: string): number | undefined {
  return /^<0x(?:[\da-f]{2}|\+[\da-f])>$/i.test(token) ? Number.parseInt(token.slice(3, 5), 16) : undefined;
}

const byteFallback: Decoder = {
  // Bytes that follow one another are one text, or all of them none.
  isOpen: (token) => byteOf(token) !== undefined,
  decode(tokens) {
    const out: string[] = [];
    let bytes: number[] = [];
    const flush = () => {
      if (bytes.length === 0) return;
      try {
        out.push(strict.decode(Uint8Array.from(bytes)));
      } catch {
        for (const _ of bytes) out.push(REPLACEMENT);
      }
      bytes = [];
    };
    for (const token of tokens) {
      const byte = byteOf(token);
      if (byte !== undefined) {
        bytes.push(byte);
        continue;
      }
      flush();
      out.push(token);
    }
    flush();
    return out;
  },
};

/** Blanks that tokenized English has and written English has not. */
const CLEANED: readonly [string, string][] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [' do not', " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

const cleaned = (text: string) => CLEANED.reduce((before, [from, to]) => before.replaceAll(from, to), text);

const wordPiece = z
  .looseObject({ prefix: z.string(), cleanup: z.boolean() })
  .transform(({ prefix, cleanup }) =>
    each((token, i) => {
      const joined = i === 0 ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      return cleanup ? cleaned(joined) : joined;
    }),
  );

const ctc = z
  .looseObject({ pad_token: z.string(), word_delimiter_token: z.string(), cleanup: z.boolean() })
  .transform(
    ({ pad_token, word_delimiter_token, cleanup }): Decoder => ({
      decode: (tokens, limit) =>
        tokens
          .filter((token, i) => i === 0 || token !== tokens[i - 1])
          .map((token) => {
            const kept = replacedAll(token, pad_token, '', limit);
            return cleanup ? replacedAll(cleaned(kept), word_delimiter_token, ' ', limit) : kept;
          })
          .filter((token) => token !== ''),
    }),
  );

/** Every `from` in `text`; an empty one stands between all characters, as in Rust. */
function replacedAll(text: string, from: string, to: string, limit: number): string {
  if (from !== '') return text.replaceAll(from, () => to);
  checkLength(text.length + to.length * (text.length + 1), limit);
  return ['', ...text, ''].join(to);
}

const strip = z
  .looseObject({ content: character, start: z.int().min(0), stop: z.int().min(0) })
  .transform(({ content, start, stop }) => ({
    goesOn: stop === 0,
    ...each((token) => {
      let [from, to] = [0, token.length];
      for (let i = 0; i < start && token.startsWith(content, from); i++) from += content.length;
      // What both ends would take is taken once.
      for (let i = 0; i < stop && to > from && token.endsWith(content, to); i++) to -= content.length;
      return token.slice(from, to);
    }),
  }));

function sequence(decoders: readonly Decoder[]): Decoder {
  const fused = decoders.findIndex((decoder) => decoder.fuses);
  const settles = fused < 0 || decoders.slice(fused + 1).every((decoder) => decoder.goesOn);
  return {
    fuses: fused >= 0,
    goesOn: decoders.every((decoder) => decoder.goesOn),
    // Where a later decoder looks at the whole text, nothing is certain before the end.
    isOpen: (token) => !settles || decoders.some((decoder) => decoder.isOpen?.(token)),
    patterns: decoders.flatMap((decoder) => decoder.patterns ?? []),
    decode: (tokens, limit) =>
      decoders.reduce((before, decoder) => {
        const after = decoder.decode(before, limit);
        checkLength(
          after.reduce((sum, token) => sum + token.length, 0),
          limit,
        );
        return after;
      }, tokens),
  };
}

export const decoderSchema = partSchema('decoder', (): PartTable<Decoder> => table);

const table: PartTable<Decoder> = {
  BPEDecoder: z.looseObject({ suffix: z.string() }).transform(
    ({ suffix }): Decoder => ({
      // A suffix that is empty or inside a token is a blank once more tokens follow.
      isOpen: (token) => {
        const last = replacedAll(token, suffix, '', Infinity);
        return !replacedAll(token, suffix, ' ', Infinity).startsWith(last);
      },
      decode: (tokens, limit) =>
        tokens.map((token, i) => replacedAll(token, suffix, i === tokens.length - 1 ? '' : ' ', limit)),
    }),
  ),
  ByteLevel: byteLevelSchema.transform(() => byteLevel),
  WordPiece: wordPiece,
  Metaspace: metaspaceSchema.transform(({ replacement, prepend_scheme }) => ({
    goesOn: true,
    ...each((token, i) => token.replaceAll(replacement, i === 0 && prepend_scheme !== 'never' ? '' : ' ')),
  })),
  CTC: ctc,
  Sequence: z
    .looseObject({ decoders: z.array(decoderSchema) })
    .transform(({ decoders }) => sequence(decoders)),
  Replace: z.looseObject({ pattern: patternSchema, content: z.string() }).transform(
    ({ pattern, content }): Decoder => ({
      patterns: [pattern],
      decode: (tokens, limit) => tokens.map((token) => replaceAll(pattern, token, content, limit)),
    }),
  ),
  Fuse: z
    .looseObject({})
    .transform((): Decoder => ({ fuses: true, goesOn: true, decode: (tokens) => [tokens.join('')] })),
  Strip: strip,
  ByteFallback: z.looseObject({}).transform(() => byteFallback),
};
