/**
 * tokenizer.json as the Rust library `tokenizers` computes it: added tokens, normalizer, pre-tokenizer, model and
 * post-processor make ids of a text; the decoder makes text of ids. What a file sets of truncation and padding is left
 * to who asks for it, as transformers does.
 */
import * as z from 'zod';
import { type AddedToken, addedTokensSchema, TokenFinder } from './addedTokens.js';
import { decoderSchema } from './decoders.js';
import { modelSchema } from './models.js';
import { leadAfter, normalizerSchema } from './normalizers.js';
import { longest } from './parts.js';
import type { Pattern } from './patterns.js';
import type { Piece } from './pieces.js';
import { joined, postProcessorSchema, type Typed } from './postProcessors.js';
import { preTokenizerSchema } from './preTokenizers.js';

/** tokenizer.json, each part checked and made. */
export const tokenizerJsonSchema = z.looseObject({
  version: z.literal('1.0').optional(),
  added_tokens: addedTokensSchema.default([]),
  normalizer: normalizerSchema.nullable().default(null),
  pre_tokenizer: preTokenizerSchema.nullable().default(null),
  post_processor: postProcessorSchema.nullable().default(null),
  decoder: decoderSchema.nullable().default(null),
  model: modelSchema,
});
export type TokenizerJson = z.infer<typeof tokenizerJsonSchema>;

/** A piece before the model: text, or what is a token already. */
type Part = Piece | number;

export class Pipeline {
  /** Content to id. */
  private readonly added = new Map<string, number>();
  private readonly addedById = new Map<number, AddedToken>();
  /** What an added token looks like behind the normalizer, where that differs. */
  private readonly normalized = new Map<number, string>();
  private readonly special = new Set<string>();
  private lastAdded = -1;
  private readonly inText: TokenFinder;
  private readonly inNormalized: TokenFinder;
  private readonly patterns: { encode: readonly Pattern[]; decode: readonly Pattern[] };

  /** @throws AmbiguousTokens. */
  constructor(
    private readonly parts: TokenizerJson,
    more: readonly AddedToken[] = [],
  ) {
    for (const tokens of [parts.added_tokens, more]) this.add(tokens);
    const entries = [...this.addedById].map(([id, token]) => ({
      id,
      token,
      text: this.normalized.get(id) ?? token.content,
    }));
    this.inText = new TokenFinder(entries.filter(({ token }) => !token.normalized));
    this.inNormalized = new TokenFinder(entries.filter(({ token }) => token.normalized));
    this.patterns = {
      encode: [...(parts.normalizer?.patterns ?? []), ...(parts.pre_tokenizer?.patterns ?? [])],
      decode: parts.decoder?.patterns ?? [],
    };
  }

  /** Added tokens have the id that the model gives them, or the next free one: what the file says of it counts nothing. */
  private add(tokens: readonly AddedToken[]): void {
    const { model, normalizer } = this.parts;
    let next = Math.max(model.size, this.lastAdded + 1);
    for (const token of tokens) {
      if (token.content === '') continue;
      const id = this.idOf(token.content) ?? next++;
      this.normalized.delete(id);
      if (token.normalized && normalizer !== null) {
        const normalized = normalizer.normalize(token.content, longest(token.content.length));
        if (normalized !== token.content) this.normalized.set(id, normalized);
      }
      this.added.set(token.content, id);
      if (token.special) this.special.add(token.content);
      this.addedById.set(id, token);
      this.lastAdded = Math.max(this.lastAdded, id);
    }
  }

  /** One more than the largest id. */
  get end(): number {
    return Math.max(this.parts.model.end, this.lastAdded + 1);
  }

  /** Whether a text is made to begin with a blank. */
  get prepends(): boolean {
    return [this.parts.normalizer, this.parts.pre_tokenizer].some((part) => part?.prepends === true);
  }

  /** The texts of all tokens that stand beside the model's own. */
  get addedTokens(): Iterable<string> {
    return this.added.keys();
  }

  /** The same by their ids, with how each is found in a text. */
  get addedEntries(): (AddedToken & { id: number })[] {
    return [...this.addedById].map(([id, token]) => ({ id, ...token })).sort((a, b) => a.id - b.id);
  }

  /** Those which are left out of a text without special tokens. */
  get specialTokens(): readonly { content: string; id: number }[] {
    return [...this.special].map((content) => ({ content, id: this.added.get(content)! }));
  }

  idOf(token: string): number | undefined {
    return this.added.get(token) ?? this.parts.model.idOf(token);
  }

  /** The token as it is spelled in the vocabulary. */
  tokenOf(id: number): string | undefined {
    return this.addedById.get(id)?.content ?? this.parts.model.tokenOf(id);
  }

  /**
   * The ids of a text, without what the post-processor puts around it.
   * @throws TooLong, UnknownToken.
   */
  encode(text: string): number[] {
    const ids: number[] = [];
    for (const part of this.pieces(text.replace(/\p{Cs}/gu, '\ufffd'))) {
      if (typeof part === 'number') ids.push(part);
      else this.parts.model.encode(part.text, ids);
    }
    return ids;
  }

  /** The ids of one text, or of the two of a pair, with what the post-processor puts around them. */
  process(texts: readonly (readonly number[])[]): Typed {
    const parts = texts.map((ids, type) => ({ ids, typeIds: ids.map(() => type) }));
    return joined(this.parts.post_processor?.(parts) ?? parts);
  }

  private *pieces(text: string): Iterable<Part> {
    const limit = longest(text.length);
    const { normalizer, pre_tokenizer } = this.parts;
    const firstLength = (text.codePointAt(0) ?? 0) > 0xffff ? 2 : 1;
    for (const part of this.inText.find(text)) {
      if (part.id !== undefined) {
        yield part.id;
        continue;
      }
      const raw = text.slice(part.start, part.end);
      const normalized = normalizer === null ? raw : normalizer.normalize(raw, limit);
      const rawLead = part.start === 0 ? firstLength : 0;
      const lead = normalizer === null ? rawLead : leadAfter(normalizer, raw, rawLead, limit);
      for (const { start, end, id } of this.inNormalized.find(normalized)) {
        if (id !== undefined) {
          yield id;
          continue;
        }
        const piece = { text: normalized.slice(start, end), lead: Math.max(0, Math.min(lead, end) - start) };
        if (pre_tokenizer === null) yield piece;
        else yield* pre_tokenizer.split(piece, limit);
      }
    }
  }

  /**
   * The text of `ids`; those that no token has are left out.
   * @throws TooLong.
   */
  decode(ids: Iterable<number>, skipSpecialTokens: boolean): string {
    const tokens: string[] = [];
    let length = 0;
    for (const id of ids) {
      const token = this.normalized.get(id) ?? this.tokenOf(id);
      if (token === undefined || (skipSpecialTokens && this.special.has(token))) continue;
      tokens.push(token);
      length += token.length;
    }
    const { decoder } = this.parts;
    return decoder === null ? tokens.join(' ') : decoder.decode(tokens, longest(length)).join('');
  }

  /** Whether the text of tokens that end with this one may still change when more follow. */
  isOpen(id: number): boolean {
    return this.parts.decoder?.isOpen?.(this.tokenOf(id) ?? '') ?? false;
  }

  /** At most how many steps the patterns may take over a text; Infinity when one may backtrack for ever. */
  steps(of: 'encode' | 'decode', length: number): number {
    return this.patterns[of].reduce((sum, pattern) => sum + pattern.steps(length), 0);
  }
}
