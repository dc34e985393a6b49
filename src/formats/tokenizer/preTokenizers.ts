/** The pre-tokenizers of tokenizer.json: each parts a text into the pieces that the model gets, one by one. */
import * as z from 'zod';
import { toByteCharacters } from './bytes.js';
import { NUMERIC, PUNCTUATION, SPACE, WORD } from './characters.js';
import { character, checkLength, type PartTable, partSchema } from './parts.js';
import { fixedPattern, literalPattern, type Pattern, patternSchema } from './patterns.js';
import { BEHAVIORS, type Behavior, type Piece, partPiece, slicePiece } from './pieces.js';
import { scriptStarts } from './scripts.js';

export interface PreTokenizer {
  /**
   * The pieces of one piece, none of them empty.
   * @param limit how many characters they may have together.
   * @throws TooLong.
   */
  split(piece: Piece, limit: number): readonly Piece[];
  /** Whether it puts a blank before a text. */
  readonly prepends?: boolean;
  readonly patterns?: readonly Pattern[];
}

function splitting(pattern: Pattern, behavior: Behavior, invert = false): PreTokenizer {
  const patterns = [pattern];
  if (behavior !== 'Isolated') {
    return { patterns, split: (piece) => partPiece(piece, pattern.cover(piece.text), behavior, invert) };
  }
  return { patterns, split: (piece) => inPieces(piece, pattern.isolate(piece.text)) };
}

/** `piece` as the `texts` that make it up. */
function inPieces(piece: Piece, texts: readonly string[]): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  for (const text of texts) {
    if (text === '') continue;
    pieces.push({ text, lead: piece.lead <= at ? 0 : Math.min(piece.lead - at, text.length) });
    at += text.length;
  }
  return pieces;
}

/** As `splitting`, of a part without settings. */
const plain = (preTokenizer: PreTokenizer) => z.looseObject({}).transform(() => preTokenizer);

const behavior = z.enum(BEHAVIORS);

const GPT2_PATTERN = fixedPattern(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`,
);

/** What ByteLevel has in all its roles; offsets are not kept here. */
export const byteLevelSchema = z.looseObject({
  add_prefix_space: z.boolean(),
  trim_offsets: z.boolean(),
  use_regex: z.boolean().default(true),
});

function byteLevel({ add_prefix_space, use_regex }: z.infer<typeof byteLevelSchema>): PreTokenizer {
  const words = splitting(GPT2_PATTERN, 'Isolated');
  return {
    prepends: add_prefix_space,
    patterns: use_regex ? [GPT2_PATTERN] : [],
    split(piece, limit) {
      const from = add_prefix_space && !piece.text.startsWith(' ') ? prepended(' ', piece) : piece;
      const pieces = use_regex ? words.split(from, limit) : [from];
      return pieces.map(({ text, lead }) => ({
        text: toByteCharacters(text),
        lead: lead === 0 ? 0 : toByteCharacters(text.slice(0, lead)).length,
      }));
    },
  };
}

const prepended = (text: string, piece: Piece): Piece => ({
  text: text + piece.text,
  lead: piece.lead === 0 ? 0 : piece.lead + text.length,
});

/** What Metaspace has as a pre-tokenizer and as a decoder. */
export const metaspaceSchema = z
  .looseObject({
    replacement: character,
    add_prefix_space: z.boolean().nullish(),
    prepend_scheme: z.enum(['first', 'never', 'always']).default('always'),
    split: z.boolean().nullish(),
  })
  .refine((json) => json.add_prefix_space !== false || json.prepend_scheme === 'never', {
    path: ['add_prefix_space'],
    error: 'false goes only with the prepend_scheme "never"',
  });

function metaspace(json: z.infer<typeof metaspaceSchema>): PreTokenizer {
  const { replacement, prepend_scheme: scheme } = json;
  const words = splitting(literalPattern(replacement), 'MergedWithNext');
  return {
    prepends: scheme !== 'never',
    split(piece, limit) {
      const text = piece.text.replaceAll(' ', () => replacement);
      const lead =
        piece.lead === 0 ? 0 : piece.text.slice(0, piece.lead).replaceAll(' ', () => replacement).length;
      const prepends = scheme === 'always' || (scheme === 'first' && piece.lead > 0);
      const marked =
        prepends && !text.startsWith(replacement) ? prepended(replacement, { text, lead }) : { text, lead };
      return json.split === false ? [marked] : words.split(marked, limit);
    },
  };
}

function sequence(preTokenizers: readonly PreTokenizer[]): PreTokenizer {
  return {
    prepends: preTokenizers.some((preTokenizer) => preTokenizer.prepends),
    patterns: preTokenizers.flatMap((preTokenizer) => preTokenizer.patterns ?? []),
    split(piece, limit) {
      let pieces: readonly Piece[] = [piece];
      for (const preTokenizer of preTokenizers) {
        const next: Piece[] = [];
        let length = 0;
        for (const before of pieces) {
          for (const after of preTokenizer.split(before, limit)) {
            next.push(after);
            length += after.text.length;
          }
          checkLength(length, limit);
        }
        pieces = next;
      }
      return pieces;
    },
  };
}

const spaces = splitting(fixedPattern(SPACE), 'Removed');

export const preTokenizerSchema = partSchema('pre-tokenizer', (): PartTable<PreTokenizer> => table);

const table: PartTable<PreTokenizer> = {
  BertPreTokenizer: plain(sequence([spaces, splitting(fixedPattern(`[${PUNCTUATION}]`), 'Isolated')])),
  ByteLevel: byteLevelSchema.transform(byteLevel),
  CharDelimiterSplit: z
    .looseObject({ delimiter: character })
    .transform(({ delimiter }) => splitting(literalPattern(delimiter), 'Removed')),
  Metaspace: metaspaceSchema.transform(metaspace),
  Whitespace: plain(splitting(fixedPattern(`[${WORD}]+|[^${WORD}${SPACE}]+`), 'Removed', true)),
  Sequence: z
    .looseObject({ pretokenizers: z.array(preTokenizerSchema) })
    .transform((json) => sequence(json.pretokenizers)),
  Split: z
    .looseObject({ pattern: patternSchema, behavior, invert: z.boolean() })
    .transform((json) => splitting(json.pattern, json.behavior, json.invert)),
  Punctuation: z
    .looseObject({ behavior: behavior.default('Isolated') })
    .transform((json) => splitting(fixedPattern(`[${PUNCTUATION}]`), json.behavior)),
  WhitespaceSplit: plain(spaces),
  Digits: z
    .looseObject({ individual_digits: z.boolean() })
    .transform((json) =>
      splitting(fixedPattern(`[${NUMERIC}]`), json.individual_digits ? 'Isolated' : 'Contiguous'),
    ),
  UnicodeScripts: plain({
    split: (piece) =>
      scriptStarts(piece.text).map((start, i, starts) =>
        slicePiece(piece, start, starts[i + 1] ?? piece.text.length),
      ),
  }),
  FixedLength: z.looseObject({ length: z.int().min(1).default(5) }).transform(({ length }) => ({
    split(piece: Piece) {
      const pieces: Piece[] = [];
      let [start, at, count] = [0, 0, 0];
      for (const { length: units } of piece.text) {
        at += units;
        if (++count % length !== 0) continue;
        pieces.push(slicePiece(piece, start, at));
        start = at;
      }
      if (start < at) pieces.push(slicePiece(piece, start, at));
      return pieces;
    },
  })),
};
