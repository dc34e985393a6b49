/** tokenizer.json and tokenizer_config.json from the metadata of a GGUF file. */

import { mergesFromScores } from './merges.js';
import { Metadata } from './metadata.js';
import type { Gguf } from './reader.js';
import { SPLITS } from './tokenizerSplits.js';

/** llama_token_type of llama.cpp. */
export const TOKEN_TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** The two files, ready to be written as JSON. */
export interface HfTokenizer {
  tokenizer: object;
  config: object;
}

/**
 * The tokenizer of a GGUF file: byte-level BPE ("gpt2"), or SentencePiece BPE ("llama") as Hugging Face
 * converts it, with byte fallback and merges derived from the scores.
 * @throws UserError when the model or the way it splits text is not known here, or metadata is missing or
 * contradicts itself.
 */
export function tokenizerOf(gguf: Gguf): HfTokenizer {
  const meta = new Metadata(gguf);
  const model = meta.string('tokenizer.ggml.model');
  if (model === 'gpt2') return byteLevel(meta);
  if (model === 'llama') return sentencePiece(meta);
  return meta.fail(`tokenizer.ggml.model is "${model}", expected gpt2 or llama`);
}

function byteLevel(meta: Metadata): HfTokenizer {
  const pre = meta.string('tokenizer.ggml.pre');
  if (!Object.hasOwn(SPLITS, pre)) {
    meta.fail(`tokenizer.ggml.pre is "${pre}", expected ${Object.keys(SPLITS).join(', ')}`);
  }
  const split = SPLITS[pre];
  const vocabulary = new Vocabulary(
    meta,
    meta.boolean('tokenizer.ggml.add_bos_token', split.addBos ?? false),
  );
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true };
  const splits = split.patterns.map((Regex) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  }));
  return vocabulary.files({
    normalizer: split.normalizer ?? null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...splits, { ...bytes, use_regex: false }] },
    decoder: { ...bytes, add_prefix_space: true, use_regex: true },
    model: {
      ...BPE,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      ignore_merges: split.ignoreMerges ?? false,
      vocab: vocabulary.ids,
      merges: readMerges(meta, vocabulary.ids),
    },
  });
}

function sentencePiece(meta: Metadata): HfTokenizer {
  const vocabulary = new Vocabulary(meta, meta.boolean('tokenizer.ggml.add_bos_token', true));
  const prefix = meta.boolean('tokenizer.ggml.add_space_prefix', true);
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const back = [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
  ];
  // SentencePiece puts one space before the text, Strip takes it away again.
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  const merges = meta.has('tokenizer.ggml.merges')
    ? readMerges(meta, vocabulary.ids)
    : mergesFromScores(shortTokens(meta, vocabulary.tokens), vocabulary.scores());
  return vocabulary.files({
    normalizer: prefix
      ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, spaces] }
      : spaces,
    pre_tokenizer: null,
    decoder: { type: 'Sequence', decoders: prefix ? [...back, strip] : back },
    model: {
      ...BPE,
      unk_token: vocabulary.special('unknown'),
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: vocabulary.ids,
      merges,
    },
  });
}

/** Far longer than any piece of a SentencePiece model; all cuts of a token are looked at. */
const MAX_PIECE_CHARACTERS = 512;

function shortTokens(meta: Metadata, tokens: string[]): string[] {
  const long = tokens.findIndex((token) => token.length > MAX_PIECE_CHARACTERS);
  if (long < 0) return tokens;
  return meta.fail(
    `token ${long} has ${tokens[long].length} characters, more than the ${MAX_PIECE_CHARACTERS} that a SentencePiece token may have`,
  );
}

const BPE = {
  type: 'BPE',
  dropout: null,
  unk_token: null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
};

/**
 * "left right", where the space parts them (a token may begin with one in no vocabulary that is read here).
 * Pairs and what they make are tokens, else the Rust library refuses the tokenizer.
 */
function readMerges(meta: Metadata, ids: Readonly<Record<string, number>>): [string, string][] {
  return meta.strings('tokenizer.ggml.merges').map((merge) => {
    const at = merge.indexOf(' ', 1);
    const [left, right] = [merge.slice(0, at), merge.slice(at + 1)];
    if (at < 0 || ![left, right, left + right].every((token) => token in ids)) {
      meta.fail(`the merge ${JSON.stringify(merge)} is no pair of tokens that makes a token`);
    }
    return [left, right];
  });
}

type SpecialName = 'bos' | 'eos' | 'unknown' | 'padding';

/** The tokens of a file, what kind each is, and which are special. */
class Vocabulary {
  readonly tokens: string[];
  /** Token to id. Made so that "__proto__" is a key like any other. */
  readonly ids: Record<string, number> = Object.create(null);
  private readonly types: number[];

  constructor(
    private readonly meta: Metadata,
    private readonly addBos: boolean,
  ) {
    this.tokens = meta.strings('tokenizer.ggml.tokens');
    this.types = meta.numbers(
      'tokenizer.ggml.token_type',
      this.tokens.map(() => TOKEN_TYPE.normal),
    );
    if (this.types.length !== this.tokens.length) {
      meta.fail(`there are ${this.tokens.length} tokens and ${this.types.length} token types`);
    }
    for (const [id, token] of this.tokens.entries()) {
      if (token in this.ids) meta.fail(`the token ${JSON.stringify(token)} appears twice`);
      this.ids[token] = id;
    }
  }

  scores(): number[] {
    const scores = this.meta.numbers('tokenizer.ggml.scores');
    if (scores.length !== this.tokens.length) {
      this.meta.fail(`there are ${this.tokens.length} tokens and ${scores.length} scores`);
    }
    return scores;
  }

  /** The text of a special token; null when the file names none. */
  special(name: SpecialName): string | null {
    const key = `tokenizer.ggml.${name}_token_id`;
    return this.meta.has(key) ? this.tokens[this.meta.count(key, undefined, this.tokens.length - 1)] : null;
  }

  /** Tokens that are matched in the text before anything else. */
  private added(): object[] {
    const specials = new Set(
      (['bos', 'eos', 'unknown', 'padding'] as const).map((name) => this.special(name)),
    );
    return this.tokens.flatMap((content, id) => {
      const special = this.types[id] === TOKEN_TYPE.control || specials.has(content);
      if (!special && this.types[id] !== TOKEN_TYPE.userDefined) return [];
      return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
    });
  }

  /** Puts the begin and end tokens around a text, where the file asks for them. */
  private postProcessor(): object | null {
    const bos = this.addBos ? this.special('bos') : null;
    const eos = this.meta.boolean('tokenizer.ggml.add_eos_token', false) ? this.special('eos') : null;
    if (bos === null && eos === null) return null;
    const piece = (token: string | null, type_id: number) =>
      token === null ? [] : [{ SpecialToken: { id: token, type_id } }];
    const around = (id: 'A' | 'B', type_id: number) => [
      ...piece(bos, type_id),
      { Sequence: { id, type_id } },
      ...piece(eos, type_id),
    ];
    const used = [bos, eos].filter((token) => token !== null);
    return {
      type: 'TemplateProcessing',
      single: around('A', 0),
      pair: [...around('A', 0), ...around('B', 1)],
      special_tokens: Object.fromEntries(used.map((id) => [id, { id, ids: [this.ids[id]], tokens: [id] }])),
    };
  }

  /** The template; where there are several (one for tools, say), all by name as Hugging Face has them. */
  private chatTemplate(): string | { name: string; template: string }[] | undefined {
    const key = 'tokenizer.chat_template';
    const main = this.meta.has(key) ? this.meta.string(key) : undefined;
    const others = this.meta
      .strings('tokenizer.chat_templates', [])
      .map((name) => ({ name, template: this.meta.string(`${key}.${name}`) }));
    if (others.length === 0) return main;
    return [...(main === undefined ? [] : [{ name: 'default', template: main }]), ...others];
  }

  files(parts: {
    normalizer: object | null;
    pre_tokenizer: object | null;
    decoder: object;
    model: object;
  }): HfTokenizer {
    const { normalizer, pre_tokenizer, decoder, model } = parts;
    const tokenizer = {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: this.added(),
      normalizer,
      pre_tokenizer,
      post_processor: this.postProcessor(),
      decoder,
      model,
    };
    const template = this.chatTemplate();
    const config = {
      tokenizer_class: 'PreTrainedTokenizerFast',
      add_bos_token: this.addBos,
      add_eos_token: this.meta.boolean('tokenizer.ggml.add_eos_token', false),
      bos_token: this.special('bos'),
      eos_token: this.special('eos'),
      unk_token: this.special('unknown'),
      pad_token: this.special('padding'),
      clean_up_tokenization_spaces: false,
      ...(template !== undefined && { chat_template: template }),
    };
    return { tokenizer, config };
  }
}
