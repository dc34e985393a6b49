/**
 * Tokenizers as models bring them: what tokenizer.json computes (tokenizer/pipeline.ts), and what the files beside it
 * say of its tokens. This file is about what is in memory and runs anywhere; tokenizer.ts reads the files of a folder.
 */
import * as z from 'zod';
import { type Deadline, OutOfTime } from '../base/deadline.js';
import { messageOf, UserError } from '../base/errors.js';
import {
  type ChatOptions,
  type ChatTemplates,
  endOfTurnToken,
  listedTemplates,
  listedTemplatesSchema,
} from './chat.js';
import { type AddedToken, AmbiguousTokens } from './tokenizer/addedTokens.js';
import { type Companions, companionTokens, tokenKeys } from './tokenizer/companions.js';
import { MAX_TOKEN_ID, UnknownToken } from './tokenizer/model.js';
import { TooLong } from './tokenizer/parts.js';
import { Pipeline, type TokenizerJson } from './tokenizer/pipeline.js';
import { shortened } from './tokenizer/shortened.js';

export { addedTokensFileSchema, specialTokensMapSchema } from './tokenizer/companions.js';
export { type TokenizerJson, tokenizerJsonSchema } from './tokenizer/pipeline.js';

const tokenId = z.int().min(0).max(MAX_TOKEN_ID);

/** The parts of tokenizer_config.json that are used. */
export const tokenizerConfigSchema = z.looseObject({
  ...tokenKeys,
  chat_template: listedTemplatesSchema,
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
  /** special_tokens_map.json and added_tokens.json, which older models have. */
  specialTokensMap?: Companions['specialTokensMap'];
  addedTokens?: Companions['addedTokens'];
  generationConfig?: z.infer<typeof tokenIdsSchema>;
  /** config.json of the model. */
  modelConfig?: z.infer<typeof tokenIdsSchema>;
  /** Default: those of `config`. */
  templates?: ChatTemplates;
  /** Names the tokenizer in errors, usually its path. */
  place: string;
  /** Ends patterns that take too long. Default: they run as long as they take. */
  deadline?: Deadline;
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

export interface WholeOptions {
  /** Most tokens, those that the tokenizer puts around the texts among them; the longer text is cut first, on the right. */
  maxLength?: number;
}

/** A whole input of an encoder. */
export interface Encoding {
  ids: number[];
  /** Of each token which text it is of, as the tokenizer counts them: 0, and 1 in the second of a pair. */
  typeIds: number[];
}

/** A whole input that was given by its words. */
export interface WordEncoding extends Encoding {
  /** Where each word begins; undefined for one that is not there. */
  starts: (number | undefined)[];
}

export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean;
}

/** What a tokenizer knows of chats. */
interface Chat {
  templates: ChatTemplates;
  eosIds: readonly number[];
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
  /** The ids that end a turn, whatever the chat template writes, `eosId` first. */
  private readonly namedEosIds: readonly number[];
  /** For right-padding, which nothing attends to: the pad token, else `eosId`, else 0. */
  readonly padId: number;
  private chat: Chat = { templates: {}, eosIds: [] };
  private readonly namedTokens: Readonly<Record<string, string>>;
  /** The texts of the tokens that `skipSpecialTokens` leaves out. */
  readonly specialTokens: readonly string[];
  private readonly specialIds: ReadonlySet<number>;
  private readonly pipeline: Pipeline;
  private readonly prefix: readonly number[];
  private readonly place: string;
  private readonly deadline: Deadline;

  /** @throws UserError that names `place` when the parts do not make a tokenizer. */
  constructor({ tokenizer: json, config = {}, place, deadline = runs, ...parts }: TokenizerParts) {
    this.place = place;
    this.deadline = deadline;
    const { specialTokensMap, addedTokens } = parts;
    const { named, added } = companionTokens({ config, specialTokensMap, addedTokens }, json.added_tokens);
    this.pipeline = this.guarded(Infinity, 0, () => new Pipeline(json, added));
    this.vocabSize = this.pipeline.end;
    const special = this.pipeline.specialTokens;
    this.specialTokens = special.map((token) => token.content);
    this.specialIds = new Set(special.map((token) => token.id));

    const idOf = (name: 'bos_token' | 'eos_token' | 'pad_token') => this.idOf(named.get(name)?.content ?? '');
    const idsOf = (name: 'bos_token_id' | 'eos_token_id') =>
      [parts.generationConfig, parts.modelConfig]
        .flatMap((file) => file?.[name] ?? [])
        .filter((id) => this.tokenOf(id) !== undefined);
    const eos = new Set([idOf('eos_token') ?? [], idsOf('eos_token_id')].flat());
    this.bosId = idOf('bos_token') ?? idsOf('bos_token_id').at(0);
    this.eosId = [...eos].at(0);
    this.namedEosIds = [...eos];
    this.padId = idOf('pad_token') ?? this.eosId ?? 0;
    const others = [...named].filter(([name]) => name !== 'bos_token' && name !== 'eos_token');
    this.namedTokens = Object.fromEntries(others.map(([name, token]) => [name, token.content]));
    this.chat = this.chatOf(parts.templates ?? listedTemplates(config.chat_template) ?? {});
    this.prefix = this.prefixOf();
  }

  /** Jinja text for renderChat, if the model has one. */
  get chatTemplate(): string | undefined {
    return this.chat.templates.plain;
  }

  get chatTemplates(): ChatTemplates {
    return this.chat.templates;
  }

  /** All tokens that are added to the model's, of whichever file, as `added_tokens` of tokenizer.json has them. */
  get addedTokens(): readonly (AddedToken & { id: number })[] {
    return this.pipeline.addedEntries;
  }

  /** All ids that end a turn, `eosId` first: of the three files and the one that the chat template writes. */
  get eosIds(): readonly number[] {
    return this.chat.eosIds;
  }

  /** Whether ids of `encode` begin twice with what it puts before a text: the text spells that itself. */
  startsTwice(ids: readonly number[]): boolean {
    const { prefix } = this;
    return prefix.length > 0 && [...prefix, ...prefix].every((id, i) => ids[i] === id);
  }

  /** The same tokens with other chat templates. */
  withTemplates(templates: ChatTemplates): Tokenizer {
    const other: Tokenizer = Object.assign(Object.create(Tokenizer.prototype), this);
    other.chat = this.chatOf(templates);
    return other;
  }

  private chatOf(templates: ChatTemplates): Chat {
    const end = templates.plain && endOfTurnToken(templates.plain, this.pipeline.addedTokens, this.texts());
    return { templates, eosIds: [...new Set([...this.namedEosIds, ...(end ? [this.idOf(end)!] : [])])] };
  }

  /** The ids of `text`. */
  encode(text: string, { addSpecialTokens = true, after = '' }: EncodeOptions = {}): number[] {
    const ids = after !== '' && this.pipeline.prepends ? this.encodeAfter(text, after) : this.plain(text);
    return addSpecialTokens ? [...this.prefix, ...ids] : ids;
  }

  /**
   * A text as an encoder takes it, with all that the tokenizer puts before and behind: [CLS] A [SEP]. Throws UserError where
   * `maxLength` leaves no room for a text.
   */
  encodeWhole(text: string, options: WholeOptions = {}): Encoding {
    return this.whole([text], options);
  }

  /**
   * Two texts in one, as the tokenizer has it for pairs: [CLS] A [SEP] B [SEP]. What is beyond `maxLength` is cut from the
   * longer one, then from both, as transformers does with `truncation=True`. Throws UserError as encodeWhole.
   */
  encodePair(a: string, b: string, options: WholeOptions = {}): Encoding {
    return this.whole([a, b], options);
  }

  /**
   * A text that is split into words already, each encoded by itself, with all that the tokenizer puts around a text: as
   * transformers does with `is_split_into_words` and `add_prefix_space`. `starts` has the place of each word's first token;
   * undefined where it has none, or was cut off. Throws UserError as encodeWhole.
   */
  encodeWords(words: readonly string[], { maxLength = Infinity }: WholeOptions = {}): WordEncoding {
    const room = this.room(1, maxLength);
    const own: number[] = [];
    const places = words.map((word) => {
      const start = own.length;
      own.push(...this.plain(this.pipeline.prepends ? word : ` ${word}`));
      return own.length > start && start < room ? start : undefined;
    });
    const { ids, typeIds } = this.pipeline.process([own.slice(0, room)]);
    const starts = places.map((start) => (start === undefined ? undefined : this.prefix.length + start));
    return { ids: [...ids], typeIds: [...typeIds], starts };
  }

  /** How many tokens of texts fit beside those around them. */
  private room(texts: 1 | 2, maxLength: number): number {
    const around = this.pipeline.process(Array.from({ length: texts }, () => [])).ids.length;
    if (maxLength > around) return maxLength - around;
    throw new UserError(
      `${this.place}: a maximum length of ${maxLength} leaves no room beside the ${around} tokens that stand around a ${texts > 1 ? 'pair' : 'text'}`,
    );
  }

  private whole(texts: readonly string[], { maxLength = Infinity }: WholeOptions): Encoding {
    const ids = texts.map((text) => this.plain(text));
    const room = this.room(texts.length > 1 ? 2 : 1, maxLength);
    const lengths = shortened(
      ids.map((own) => own.length),
      room,
    );
    const { ids: whole, typeIds } = this.pipeline.process(ids.map((own, i) => own.slice(0, lengths[i])));
    return { ids: [...whole], typeIds: [...typeIds] };
  }

  /**
   * The text of `ids`, nothing cleaned up: decoding what was encoded gives the text back, as far as the
   * tokenizer keeps it. SentencePiece's keep no `▁`: it is their mark of a blank, and comes back as one. Ids that no
   * token has (a padded vocabulary) have no text.
   */
  decode(ids: ArrayLike<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string {
    const known = Array.from(ids);
    return this.guarded(this.pipeline.steps('decode', known.length * TOKEN_LENGTH), known.length, () =>
      this.pipeline.decode(known, skipSpecialTokens),
    );
  }

  /** The token itself, e.g. "<|im_end|>" or "Ġriver"; undefined when there is none. */
  tokenOf(id: number): string | undefined {
    return this.pipeline.tokenOf(id);
  }

  idOf(token: string): number | undefined {
    return this.pipeline.idOf(token);
  }

  /** Whether `skipSpecialTokens` leaves this token out. */
  isSpecial(id: number): boolean {
    return this.specialIds.has(id);
  }

  /** Whether the text of ids that end with this one may still change when more follow. */
  isOpen(id: number): boolean {
    return this.pipeline.isOpen(id);
  }

  /** What renderChat and chatSegments want to know about this tokenizer. */
  texts(): Pick<ChatOptions, 'bosToken' | 'eosToken' | 'namedTokens' | 'templateFile'> {
    const text = (id: number | undefined) => (id === undefined ? undefined : this.tokenOf(id));
    const { namedTokens } = this;
    const { file: templateFile } = this.chat.templates;
    return { bosToken: text(this.bosId), eosToken: text(this.eosId), namedTokens, templateFile };
  }

  /** The template for a chat: the one called tool_use where there are tools and the model has it, as in transformers. */
  templateFor(tools: readonly unknown[] | undefined): string | undefined {
    return (tools && this.chat.templates.toolUse) ?? this.chatTemplate;
  }

  private plain(text: string): number[] {
    return this.guarded(this.pipeline.steps('encode', text.length), text.length, () =>
      this.pipeline.encode(text),
    );
  }

  /** Encodes both in one, from the last special token on, when the first part comes out as it does alone. */
  private encodeAfter(text: string, after: string): number[] {
    const starts = this.specialTokens.map((token) => after.lastIndexOf(token));
    const tail = after.slice(Math.max(0, ...starts));
    const before = this.plain(tail);
    const both = this.plain(tail + text);
    return before.every((id, i) => id === both[i]) ? both.slice(before.length) : this.plain(text);
  }

  private prefixOf(): readonly number[] {
    const text = -1;
    const { ids: whole } = this.pipeline.process([[text]]);
    if (whole.filter((id) => id === text).length !== 1)
      throw new UserError(`${this.place}: the post_processor does not have the text once`);
    return whole.slice(0, whole.indexOf(text));
  }

  /** Does `work`, whose patterns take at most `steps` over `length` characters, in bounded time. */
  private guarded<T>(steps: number, length: number, work: () => T): T {
    try {
      return steps <= FEW_STEPS ? work() : this.deadline(MOST_MS + length * MOST_MS_EACH, work);
    } catch (error) {
      if (error instanceof OutOfTime) {
        throw new UserError(
          `${this.place}: the patterns of this tokenizer take more than ${Math.round(error.milliseconds / 1000)} s over a text of ${length} characters`,
        );
      }
      if (error instanceof TooLong || error instanceof UnknownToken || error instanceof AmbiguousTokens)
        throw new UserError(`${this.place}: ${messageOf(error)}`);
      throw error;
    }
  }
}

/** Fewer than a tenth of a second takes. */
const FEW_STEPS = 1e8;
/** What a text may take, and each of its characters besides. */
const [MOST_MS, MOST_MS_EACH] = [10_000, 0.1];
/** Tokens are hardly ever longer. */
const TOKEN_LENGTH = 16;

const runs: Deadline = (_, work) => work();
