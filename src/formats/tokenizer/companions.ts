/**
 * What the files beside tokenizer.json say of tokens: tokenizer_config.json, and where that has no
 * `added_tokens_decoder`, special_tokens_map.json and added_tokens.json. As transformers 5 puts them together
 * (PreTrainedTokenizerBase.from_pretrained, TokenizersBackend).
 */
import * as z from 'zod';
import type { AddedToken } from './addedTokens.js';
import { MAX_TOKEN_ID } from './model.js';

const tokenId = z.int().min(0).max(MAX_TOKEN_ID);

const tokenObject = z
  .looseObject({
    content: z.string(),
    single_word: z.boolean().default(false),
    lstrip: z.boolean().default(false),
    rstrip: z.boolean().default(false),
    normalized: z.boolean().optional(),
    special: z.boolean().default(false),
  })
  .transform(
    ({ content, single_word, lstrip, rstrip, normalized, special }): AddedToken => ({
      content,
      single_word,
      lstrip,
      rstrip,
      normalized: normalized ?? !special,
      special,
    }),
  );

/** The text of a token, or the token with how it is found. */
const token = z.union([z.string().transform(specialToken), tokenObject], {
  error: 'expected a token: text, or an object with content',
});
const optionalToken = token.nullish();

function specialToken(content: string): AddedToken {
  return { content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
}

const NAMES = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const;
type Name = (typeof NAMES)[number];
const named = Object.fromEntries(NAMES.map((name) => [name, optionalToken])) as Record<
  Name,
  typeof optionalToken
>;

const extras = {
  additional_special_tokens: z.array(token).nullish(),
  extra_special_tokens: z.union([z.array(token), z.record(z.string(), token)]).nullish(),
};

/** The keys of tokenizer_config.json that are about tokens. */
export const tokenKeys = {
  ...named,
  ...extras,
  added_tokens_decoder: z
    .record(z.string().regex(/^\d{1,8}$/, { error: 'expected a token id' }), tokenObject)
    .optional(),
};

/** special_tokens_map.json: all that it names are special. */
export const specialTokensMapSchema = z.looseObject({ ...named, ...extras });
/** added_tokens.json: tokens and their ids. */
export const addedTokensFileSchema = z.record(z.string(), tokenId);

const configTokens = z.looseObject(tokenKeys);
type ConfigTokens = z.infer<typeof configTokens>;

export interface Companions {
  config: ConfigTokens;
  specialTokensMap?: z.infer<typeof specialTokensMapSchema>;
  addedTokens?: z.infer<typeof addedTokensFileSchema>;
}

/** The tokens that the files name, and all that are added to those of tokenizer.json, in order. */
export function companionTokens(
  { config, specialTokensMap = {}, addedTokens = {} }: Companions,
  own: readonly (AddedToken & { id: number })[],
): { named: ReadonlyMap<string, AddedToken>; added: AddedToken[] } {
  const decoder = config.added_tokens_decoder;
  const listed = listOf(config.extra_special_tokens) ?? config.additional_special_tokens ?? undefined;
  const map = decoder === undefined ? specialTokensMap : {};
  const extra = unique([
    ...(listed ?? map.additional_special_tokens ?? []),
    ...(listOf(map.extra_special_tokens) ?? []).map(asSpecial),
  ]);
  const names = namedTokens({ ...config, ...withoutEmpty(map) });

  const byId = new Map<number, AddedToken>();
  if (decoder !== undefined) {
    for (const [id, of] of Object.entries(decoder)) byId.set(Number(id), of);
  } else {
    const special = new Set([...names.values(), ...extra].map(({ content }) => content));
    for (const [content, id] of Object.entries(addedTokens)) {
      const isSpecial = special.has(content);
      byId.set(id, { ...specialToken(content), normalized: !isSpecial, special: isSpecial });
    }
    for (const { id, ...of } of own) byId.set(id, of);
  }
  const texts = new Set([...names.values()].map((of) => of.content));
  const ownByContent = new Map(own.map((of) => [of.content, of]));
  const inOrder = [...byId]
    .sort(([a], [b]) => a - b)
    .map(([, of]) => of)
    .filter((of) => !isSame(of, ownByContent.get(of.content)))
    .map((of) => ({ ...of, special: of.special || texts.has(of.content) }));
  // A name alone changes nothing of how a token that is there is found.
  const known = new Set([...own, ...inOrder].map((of) => of.content));
  const more = [...[...names.values()].map(asSpecial), ...extra];
  return { named: names, added: [...inOrder, ...more.filter((of) => !known.has(of.content))] };
}

const asSpecial = (of: AddedToken): AddedToken => ({ ...of, special: true });

const isSame = (a: AddedToken, b: AddedToken | undefined) =>
  b !== undefined && FLAGS.every((flag) => a[flag] === b[flag]);
const FLAGS = ['single_word', 'lstrip', 'rstrip', 'normalized', 'special'] as const;

const listOf = <T>(value: T[] | Record<string, T> | null | undefined): T[] | undefined =>
  Array.isArray(value) && value.length > 0 ? value : undefined;

const withoutEmpty = (object: object) =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null && value !== undefined));

function unique(tokens: readonly AddedToken[]): AddedToken[] {
  return [...new Map(tokens.map((of) => [of.content, of])).values()];
}

/** The seven that all models have, and what else ends in `_token` or has a name under `extra_special_tokens`. */
function namedTokens(config: ConfigTokens): Map<string, AddedToken> {
  const found = new Map<string, AddedToken>();
  const add = (name: string, value: unknown) => {
    const of = token.safeParse(value);
    if (of.success) found.set(name, of.data);
  };
  for (const name of NAMES) if (config[name]) found.set(name, config[name]);
  for (const [name, value] of Object.entries(config))
    if (name.endsWith('_token') && !(NAMES as readonly string[]).includes(name)) add(name, value);
  const more = config.extra_special_tokens;
  if (more && !Array.isArray(more)) for (const [name, of] of Object.entries(more)) found.set(name, of);
  return found;
}
