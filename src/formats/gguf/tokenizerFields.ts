/** The tokenizer of a Hugging Face folder as the metadata of a GGUF file: gguf/tokenizer.ts turned round. */
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import type { ChatTemplates } from '../chat.js';
import { exists, readJson } from '../io/node.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer.js';
import { TOKEN_TYPE } from './tokenizer.js';
import { preNameOf } from './tokenizerSplits.js';
import type { GgufField } from './writer.js';

const part = z.looseObject({ type: z.string() });
const schema = z.looseObject({
  added_tokens: z.array(z.looseObject({ content: z.string(), special: z.boolean().optional() })).default([]),
  normalizer: part.nullish(),
  pre_tokenizer: part.nullish(),
  model: z.looseObject({
    type: z.string().optional(),
    byte_fallback: z.boolean().nullish(),
    ignore_merges: z.boolean().nullish(),
    unk_token: z.string().nullish(),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])).default([]),
  }),
});
type Json = z.output<typeof schema>;

/**
 * Tokens, merges or scores, special tokens and chat template, padded to the `rows` of the embedding. `model` is as of
 * loadTokenizer; `templates` take the place of those of the folder.
 * @throws UserError where the tokenizer does what no pre-tokenizer of llama.cpp is known to do.
 */
export async function tokenizerFields(
  folder: string,
  rows: number,
  { model = folder, templates }: { model?: string; templates?: ChatTemplates } = {},
): Promise<GgufField[]> {
  const place = join(folder, 'tokenizer.json');
  const own = await loadTokenizer(folder, model);
  const tokenizer = templates ? own.withTemplates(templates) : own;
  const json = await readJson(place, schema);
  if (json.model.type !== undefined && json.model.type !== 'BPE') {
    throw new UserError(`${place}: a model of type ${json.model.type} is not written as GGUF, only BPE`);
  }
  const pieces = json.model.byte_fallback === true;
  const fields = pieces ? sentencePiece(place, json, tokenizer, rows) : byteLevel(place, json);
  const pad = (await padToken(folder)) === null ? undefined : tokenizer.padId;
  return [...fields, ...vocabulary(json, tokenizer, rows, pieces), ...special(json, tokenizer, pad)];
}

/** null where the tokenizer has none, and padding is done with another token. */
async function padToken(folder: string): Promise<unknown> {
  const path = join(folder, 'tokenizer_config.json');
  if (!(await exists(path))) return null;
  return (await readJson(path, z.looseObject({ pad_token: z.unknown().optional() }))).pad_token ?? null;
}

function byteLevel(place: string, json: Json): GgufField[] {
  const merges = json.model.merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' ')));
  return [
    { key: 'tokenizer.ggml.model', type: 'string', value: 'gpt2' },
    { key: 'tokenizer.ggml.pre', type: 'string', value: preNameOf(place, json) },
    { key: 'tokenizer.ggml.merges', type: 'strings', value: merges },
  ];
}

/** SentencePiece's BPE joins the pair of the best score; a merge's place in the list is the score of what it makes. */
function sentencePiece(place: string, json: Json, tokenizer: Tokenizer, rows: number): GgufField[] {
  const scores = new Array<number>(rows).fill(0);
  const scored = new Set<string>();
  for (const merge of json.model.merges) {
    // The space between the two; SentencePiece's own blank is another character.
    const token = typeof merge === 'string' ? merge.replace(' ', '') : merge.join('');
    const id = tokenizer.idOf(token);
    if (id === undefined || scored.has(token)) continue;
    scored.add(token);
    scores[id] = -scored.size;
  }
  return [
    { key: 'tokenizer.ggml.model', type: 'string', value: 'llama' },
    { key: 'tokenizer.ggml.pre', type: 'string', value: 'default' },
    { key: 'tokenizer.ggml.scores', type: 'float32s', value: scores },
    { key: 'tokenizer.ggml.add_space_prefix', type: 'bool', value: spacePrefix(place, json) },
  ];
}

/** Whether a blank goes before the text: by the normalizer of older files, by the pre-tokenizer of newer ones. */
function spacePrefix(place: string, { normalizer, pre_tokenizer }: Json): boolean {
  const steps = (normalizer?.type === 'Sequence' ? normalizer.normalizers : [normalizer]) as unknown[];
  const types = steps.map((step) => part.safeParse(step).data?.type);
  const known = types.every((type) => type === undefined || type === 'Prepend' || type === 'Replace');
  if (!known || (pre_tokenizer && pre_tokenizer.type !== 'Metaspace')) {
    throw new UserError(
      `${place}: its normalizer or pre_tokenizer is none that llama.cpp has for SentencePiece`,
    );
  }
  return pre_tokenizer ? pre_tokenizer.prepend_scheme !== 'never' : types.includes('Prepend');
}

const BYTE = /^<0x[0-9A-F]{2}>$/;

function vocabulary(json: Json, tokenizer: Tokenizer, rows: number, pieces: boolean): GgufField[] {
  const added = new Map(json.added_tokens.map(({ content, special = false }) => [content, special]));
  const tokens: string[] = [];
  const types: number[] = [];
  for (let id = 0; id < rows; id++) {
    const token = tokenizer.tokenOf(id);
    tokens.push(token ?? `[PAD${id}]`);
    types.push(token === undefined ? TOKEN_TYPE.unused : typeOf(token));
  }
  function typeOf(token: string): number {
    if (pieces && token === json.model.unk_token) return TOKEN_TYPE.unknown;
    const isSpecial = added.get(token);
    if (isSpecial !== undefined) return isSpecial ? TOKEN_TYPE.control : TOKEN_TYPE.userDefined;
    return pieces && BYTE.test(token) ? TOKEN_TYPE.byte : TOKEN_TYPE.normal;
  }
  return [
    { key: 'tokenizer.ggml.tokens', type: 'strings', value: tokens },
    { key: 'tokenizer.ggml.token_type', type: 'int32s', value: types },
  ];
}

function special(json: Json, tokenizer: Tokenizer, pad: number | undefined): GgufField[] {
  const unknown = json.model.unk_token ? tokenizer.idOf(json.model.unk_token) : undefined;
  const id = (name: string, value: number | undefined): GgufField[] =>
    value === undefined ? [] : [{ key: `tokenizer.ggml.${name}_token_id`, type: 'uint32', value }];
  // A text begins with what the tokenizer puts before it; nothing but BOS can be said.
  const addsBos = tokenizer.bosId !== undefined && tokenizer.encode('')[0] === tokenizer.bosId;
  const template = tokenizer.chatTemplate;
  return [
    ...id('bos', tokenizer.bosId),
    ...id('eos', tokenizer.eosId),
    ...id(
      'eot',
      tokenizer.eosIds.find((other) => other !== tokenizer.eosId),
    ),
    ...id('unknown', unknown),
    ...id('padding', pad),
    { key: 'tokenizer.ggml.add_bos_token', type: 'bool', value: addsBos },
    ...(template === undefined
      ? []
      : [{ key: 'tokenizer.chat_template', type: 'string', value: template } satisfies GgufField]),
  ];
}
