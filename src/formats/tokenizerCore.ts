/**
 * Tokenizers as models bring them (tokenizer.json), over @huggingface/tokenizers. This file is about what is
 * in memory and runs anywhere; tokenizer.ts reads the files of a folder.
 */
import * as hf from '@huggingface/tokenizers';
import * as z from 'zod';
import { messageOf, UserError } from '../base/errors.js';
import { endOfTurnToken } from './chat.js';

// The package's declarations do not resolve under NodeNext: this is the part of its API used here.
interface Backend {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: false },
  ): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
}
const Backend: new (tokenizer: unknown, config: unknown) => Backend = hf.Tokenizer;

/** Larger than any vocabulary; ids are indices of arrays. */
const MAX_TOKEN_ID = 1 << 24;

const tokenId = z.int().min(0).max(MAX_TOKEN_ID);
const part = z.looseObject({ type: z.string().optional() }).nullable().default(null);

/** The parts of tokenizer.json that are looked at here; the backend reads the rest. */
export const tokenizerJsonSchema = z.looseObject({
  added_tokens: z
    .array(z.looseObject({ id: tokenId, content: z.string().min(1), special: z.boolean().default(false) }))
    .default([]),
  normalizer: part,
  pre_tokenizer: part,
  post_processor: part,
  decoder: part,
  model: z.looseObject({
    type: z.string().optional(),
    byte_fallback: z.boolean().nullish(),
    vocab: z.union([
      z.record(z.string(), tokenId),
      z.array(z.tuple([z.string(), z.number()])).max(MAX_TOKEN_ID),
    ]),
  }),
});
export type TokenizerJson = z.infer<typeof tokenizerJsonSchema>;

const tokenText = z
  .union([z.string(), z.looseObject({ content: z.string() }).transform((token) => token.content)])
  .nullish();

/** The parts of tokenizer_config.json that are used. */
export const tokenizerConfigSchema = z.looseObject({
  bos_token: tokenText,
  eos_token: tokenText,
  pad_token: tokenText,
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
});

/** What config.json and generation_config.json say about tokens. */
export const tokenIdsSchema = z.looseObject({
  bos_token_id: z.union([tokenId, z.array(tokenId)]).nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId)]).nullish(),
});

/** The checked contents of a tokenizer's files. */
export interface TokenizerParts {
  tokenizer: TokenizerJson;
  config?: z.infer<typeof tokenizerConfigSchema>;
  generationConfig?: z.infer<typeof tokenIdsSchema>;
  /** config.json of the model. */
  modelConfig?: z.infer<typeof tokenIdsSchema>;
  /** A template that stands in a file of its own (chat_template.jinja); goes before that of `config`. */
  chatTemplate?: string;
  /** Names the tokenizer in errors, usually its path. */
  place: string;
}

export interface EncodeOptions {
  /**
   * Put before the text what the tokenizer puts before a text (BOS, for some nothing). Never an EOS behind
   * it: what is encoded here is to be continued. Default true; false for the text of a chat template, which
   * spells its own BOS.
   */
  addSpecialTokens?: boolean;
  /**
   * The text that this one continues, when they are encoded apart: tokenizers that put a blank before each
   * text (Llama 2, Mistral) then do not put one here.
   */
  after?: string;
}

export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean;
}

/**
 * Text to token ids and back.
 *
 * A special token spelled out in a text becomes that token, as in transformers: `<|im_end|>` in a row of
 * somebody's data ends a turn. Who encodes text that others wrote has to take that out before.
 */
export class Tokenizer {
  /** One more than the largest id. The model's own vocabulary may be larger (padded), never smaller. */
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  /** The EOS of tokenizer_config.json (else of generation_config.json, config.json): ends a training text. */
  readonly eosId: number | undefined;
  /** All ids that end a turn, `eosId` first: of the three files and the one that the chat template writes. */
  readonly eosIds: readonly number[];
  /** For right-padding, which nothing attends to: the pad token, else `eosId`, else 0. */
  readonly padId: number;
  /** Jinja text for renderChat, if the model has one. */
  readonly chatTemplate: string | undefined;
  /** The texts of the tokens that `skipSpecialTokens` leaves out. */
  readonly specialTokens: readonly string[];
  private readonly specialIds: ReadonlySet<number>;
  private readonly backend: Backend;
  private readonly prefix: readonly number[];
  private readonly addsBlank: boolean;

  /** @throws UserError that names `place` when the parts do not make a tokenizer. */
  constructor({ tokenizer: json, config = {}, place, ...parts }: TokenizerParts) {
    if (json.model.type === 'Unigram' && json.model.byte_fallback === true) {
      throw new UserError(`${place}: Unigram models with byte_fallback are not supported`);
    }
    this.backend = backendOf(json, place);
    this.vocabSize = vocabSizeOf(json);
    const special = json.added_tokens.filter((token) => token.special);
    this.specialTokens = special.map((token) => token.content);
    this.specialIds = new Set(special.map((token) => token.id));

    const idOf = (name: 'bos_token' | 'eos_token' | 'pad_token'): number | undefined => {
      const text = config[name];
      if (text === undefined || text === null) return undefined;
      const id = this.backend.token_to_id(text);
      if (id === undefined) throw new UserError(`${place}: the ${name} "${text}" is not in the vocabulary`);
      return id;
    };
    const idsOf = (name: 'bos_token_id' | 'eos_token_id') =>
      [parts.generationConfig, parts.modelConfig]
        .flatMap((file) => file?.[name] ?? [])
        .filter((id) => this.tokenOf(id) !== undefined);
    const eos = new Set([idOf('eos_token') ?? [], idsOf('eos_token_id')].flat());
    this.bosId = idOf('bos_token') ?? idsOf('bos_token_id').at(0);
    this.eosId = [...eos].at(0);
    this.padId = idOf('pad_token') ?? this.eosId ?? 0;
    this.chatTemplate = parts.chatTemplate ?? templateOf(config.chat_template);
    const endOfTurn =
      this.chatTemplate && endOfTurnToken(this.chatTemplate, this.specialTokens, this.texts());
    if (endOfTurn) eos.add(this.backend.token_to_id(endOfTurn)!);
    this.eosIds = [...eos];

    this.addsBlank = [json.normalizer, json.pre_tokenizer].some(putsBlankBefore);
    this.prefix = this.prefixOf(place);
  }

  /** The ids of `text`. */
  encode(text: string, { addSpecialTokens = true, after = '' }: EncodeOptions = {}): number[] {
    const ids = after !== '' && this.addsBlank ? this.encodeAfter(text, after) : this.plain(text);
    return addSpecialTokens ? [...this.prefix, ...ids] : ids;
  }

  /**
   * The text of `ids`, nothing cleaned up: decoding what was encoded gives the text back, as far as the
   * tokenizer keeps it. Ids that no token has (a padded vocabulary) have no text. (0.2.0 of the library loses
   * a U+FEFF that begins a run of byte tokens, `<0xEF><0xBB><0xBF>`, of a tokenizer with byte fallback.)
   */
  decode(ids: ArrayLike<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string {
    const known = Array.from(ids).filter((id) => this.tokenOf(id) !== undefined);
    if (known.length === 0) return '';
    return this.backend.decode(known, {
      skip_special_tokens: skipSpecialTokens,
      clean_up_tokenization_spaces: false,
    });
  }

  /** The token itself, e.g. "<|im_end|>" or "Ġriver"; undefined when there is none. */
  tokenOf(id: number): string | undefined {
    return this.backend.id_to_token(id);
  }

  idOf(token: string): number | undefined {
    return this.backend.token_to_id(token);
  }

  /** Whether `skipSpecialTokens` leaves this token out. */
  isSpecial(id: number): boolean {
    return this.specialIds.has(id);
  }

  /** What renderChat and chatSegments want to know about this tokenizer. */
  texts(): { bosToken: string | undefined; eosToken: string | undefined } {
    const text = (id: number | undefined) => (id === undefined ? undefined : this.tokenOf(id));
    return { bosToken: text(this.bosId), eosToken: text(this.eosId) };
  }

  private plain(text: string): number[] {
    return text === '' ? [] : (this.backend.encode(text, { add_special_tokens: false }).ids as number[]);
  }

  /** Encodes both in one, from the last special token on, when the first part comes out as it does alone. */
  private encodeAfter(text: string, after: string): number[] {
    const starts = this.specialTokens.map((token) => after.lastIndexOf(token));
    const tail = after.slice(Math.max(0, ...starts));
    const before = this.plain(tail);
    const both = this.plain(tail + text);
    return before.every((id, i) => id === both[i]) ? both.slice(before.length) : this.plain(text);
  }

  private prefixOf(place: string): number[] {
    const bare = this.plain('a');
    const whole = this.backend.encode('a', { add_special_tokens: true }).ids;
    const at = whole.findIndex((_, i) => bare.every((id, j) => whole[i + j] === id));
    const prefix = whole.slice(0, at);
    if (at === -1 || !prefix.every((id) => id !== undefined)) {
      throw new UserError(`${place}: the post_processor puts something around a text that is not a token`);
    }
    return prefix as number[];
  }
}

function backendOf(json: TokenizerJson, place: string): Backend {
  try {
    return new Backend(json, {});
  } catch (error) {
    throw new UserError(`${place}: the tokenizer cannot be used: ${messageOf(error)}`);
  }
}

function vocabSizeOf({ model, added_tokens }: TokenizerJson): number {
  let size = Array.isArray(model.vocab) ? model.vocab.length : 0;
  if (!Array.isArray(model.vocab)) for (const id of Object.values(model.vocab)) size = Math.max(size, id + 1);
  for (const token of added_tokens) size = Math.max(size, token.id + 1);
  return size;
}

function templateOf(value: z.infer<typeof tokenizerConfigSchema>['chat_template']): string | undefined {
  if (!Array.isArray(value)) return value ?? undefined;
  return value.find((entry) => entry.name === 'default')?.template;
}

/** Whether a normalizer or pre-tokenizer, or one inside it, puts a blank before a text. */
function putsBlankBefore(step: unknown): boolean {
  if (typeof step !== 'object' || step === null) return false;
  if (Array.isArray(step)) return step.some(putsBlankBefore);
  const { type, prepend_scheme, add_prefix_space, normalizers, pretokenizers } = step as Record<
    string,
    unknown
  >;
  return (
    type === 'Prepend' ||
    (type === 'Metaspace' && (prepend_scheme ?? 'always') !== 'never') ||
    (type === 'ByteLevel' && add_prefix_space === true) ||
    putsBlankBefore(normalizers) ||
    putsBlankBefore(pretokenizers)
  );
}

export interface StreamOptions {
  /** Default true. */
  skipSpecialTokens?: boolean;
  /** The ids that the stream continues, so that a first token keeps the blank before its word. */
  after?: ArrayLike<number>;
}

/** What an incomplete UTF-8 sequence decodes to. */
const REPLACEMENT = '\ufffd';

/** Text of tokens that come one by one: each piece is whole characters, and all pieces make the whole text. */
export class StreamDecoder {
  /** The tokens that are decoded together: those not yet finished, behind one that is. */
  private window: number[] = [];
  /** How much of the window's text was given out. */
  private given = 0;
  private readonly skips: boolean;

  constructor(
    private readonly tokenizer: Tokenizer,
    { skipSpecialTokens = true, after = [] }: StreamOptions = {},
  ) {
    this.skips = skipSpecialTokens;
    this.window = Array.from(after)
      .filter((id) => !this.ignores(id))
      .slice(-CONTEXT);
    this.settle();
  }

  /** The text that is now certain; '' while a character is incomplete. */
  push(id: number): string {
    if (this.ignores(id)) return '';
    this.window.push(id);
    const text = this.tokenizer.decode(this.window);
    // Only the last character can still change: what is incomplete before it was given up by the decoder.
    const pending = text.endsWith(REPLACEMENT);
    const end = Math.max(this.given, pending ? text.length - 1 : text.length);
    const piece = text.slice(this.given, end);
    this.given = end;
    if (!pending) this.settle();
    return piece;
  }

  /** What is left at the end: an incomplete character as U+FFFD. The decoder can then start on a new text. */
  flush(): string {
    const rest = this.tokenizer.decode(this.window).slice(this.given);
    this.window = [];
    this.given = 0;
    return rest;
  }

  private ignores(id: number): boolean {
    return this.skips && this.tokenizer.isSpecial(id);
  }

  /**
   * Everything was given out: keeps as context the last token that has a text of its own, because decoders
   * strip the blank of a text's first token.
   */
  private settle(): void {
    for (let start = this.window.length - 1; start >= 0; start--) {
      const kept = this.window.slice(start);
      const text = this.tokenizer.decode(kept);
      if (text === '' && start > 0) continue;
      this.window = kept;
      this.given = text.length;
      return;
    }
  }
}

/** Tokens of the text before that the decoder looks at. */
const CONTEXT = 8;
