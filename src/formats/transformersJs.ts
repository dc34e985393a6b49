/** What transformers.js, version 4, finds in a model's folder beside its ONNX files, and by which names. */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import * as z from 'zod';
import type { ChatTemplates } from './chat.js';
import { readChatTemplates } from './chatTemplates.js';
import { addEndTokens, readGenerationConfig } from './generationConfig.js';
import { exists, readJson } from './io/node.js';
import { writeFileAtomic } from './io/write.js';
import type { Tokenizer } from './tokenizer.js';

/** Element types of an exported model's weights, by the names that `dtype` has in transformers.js. */
export const onnxDTypes = ['fp32', 'fp16', 'q8'] as const;
export type OnnxDType = (typeof onnxDTypes)[number];

/** Where it has its ONNX files. */
export const ONNX_FOLDER = 'onnx';

/** The file that it loads for a type. */
export const ONNX_FILES: Readonly<Record<OnnxDType, string>> = {
  fp32: 'model.onnx',
  fp16: 'model_fp16.onnx',
  q8: 'model_quantized.onnx',
};

/** Types of models that it has classes for, of those that there may be here. */
export const KNOWN_TYPES: ReadonlySet<string> = new Set([
  ...['llama', 'mistral', 'qwen2', 'qwen3', 'qwen3_moe', 'smollm3', 'granite', 'olmo2', 'phi3'],
  ...['gemma', 'gemma2', 'gemma3_text', 'gpt2', 'gpt_neox'],
  ...['bert', 'roberta', 'xlm-roberta', 'distilbert', 'deberta-v2', 'modernbert'],
]);

const json = z.record(z.string(), z.unknown());
type Json = z.output<typeof json>;

/** What is said of a model in its config.json. */
export interface ConfigJson {
  /** The one of the base. */
  config: Json;
  /** Keys that it looks up and that the base's may leave out, by their names in the file. */
  sizes: Readonly<Record<string, number>>;
  /** Keys of which others are true of what is written. */
  changes: Json;
  /** For each ONNX file into how many files of data its weights went. */
  files: ReadonlyMap<OnnxDType, number>;
}

/** The text of config.json. */
export function configJson({ config, sizes, changes, files }: ConfigJson): string {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null));
  const external = [...files]
    .filter(([, count]) => count > 0)
    .map(([dtype, count]) => [ONNX_FILES[dtype], count]);
  // It takes fp32 in Node and q8 in browsers, where nobody says.
  const isWhole = files.has('fp32') && files.has('q8');
  const own = {
    ...(external.length > 0 && { use_external_data_format: Object.fromEntries(external) }),
    ...(!isWhole && { dtype: onnxDTypes.find((dtype) => files.has(dtype)) }),
  };
  const { 'transformers.js_config': _, ...kept } = config;
  const content = {
    ...kept,
    ...Object.fromEntries(Object.entries(sizes).filter(([key]) => !(key in given))),
    ...changes,
    ...(Object.keys(own).length > 0 && { 'transformers.js_config': own }),
  };
  return jsonText(content);
}

/** Of a tokenizer that is written: where it lies, and what is known of it and of its model. */
export interface WrittenTokenizer {
  folder: string;
  /** As it is read here; absent: by its files alone. */
  tokenizer?: Tokenizer;
  /** Whether the model has types of tokens to tell apart. */
  hasTypes: boolean;
  /** Positions that an encoder has. */
  maxPositions?: number;
}

/** Classes that give types of tokens; the others leave them out, and all are taken for 0. */
const WITH_TYPES = new Set(['BertTokenizer', 'DebertaTokenizer', 'DebertaV2Tokenizer']);

/**
 * Writes tokenizer.json and tokenizer_config.json into `to`, which are all that it reads: tokens, special tokens and the chat template
 * that stand in other files are put into these. Without tokenizer.json nothing is written.
 */
export async function writeTokenizer(
  to: string,
  { folder, tokenizer, hasTypes, maxPositions }: WrittenTokenizer,
): Promise<void> {
  const place = join(folder, 'tokenizer.json');
  if (!(await exists(place))) return;
  const parts = await readJson(place, json);
  const added = tokenizer?.addedTokens;
  const isWhole = added === undefined || isDeepStrictEqual(parts.added_tokens ?? [], added);
  if (isWhole) await copyFile(place, join(to, 'tokenizer.json'));
  else await writeFileAtomic(join(to, 'tokenizer.json'), JSON.stringify({ ...parts, added_tokens: added }));

  const optional = async (name: string): Promise<Json> =>
    (await exists(join(folder, name))) ? readJson(join(folder, name), json) : {};
  const special = await optional('special_tokens_map.json');
  const { chat_template: _, ...own } = await optional('tokenizer_config.json');
  const { tokenizer_class: given, model_max_length: longest } = own;
  const name = typeof given === 'string' ? given.replace(/Fast$/, '') : '';
  const content = {
    ...withTexts(special),
    ...withTexts(own),
    ...(hasTypes && !WITH_TYPES.has(name) && { tokenizer_class: 'BertTokenizer' }),
    ...(maxPositions !== undefined && {
      model_max_length: typeof longest === 'number' ? Math.min(longest, maxPositions) : maxPositions,
    }),
    ...listed(tokenizer ? tokenizer.chatTemplates : await readChatTemplates(folder)),
  };
  await writeFileAtomic(join(to, 'tokenizer_config.json'), jsonText(content));
}

/** Names of tokens with their texts: of a token that is an object it wants another form than transformers writes. */
function withTexts(tokens: Json): Json {
  const text = (value: unknown) =>
    typeof value === 'object' && value !== null && 'content' in value ? value.content : value;
  return Object.fromEntries(
    Object.entries(tokens).map(([key, value]) => [key, key.endsWith('_token') ? text(value) : value]),
  );
}

function listed({ plain, toolUse }: ChatTemplates = {}): Json {
  if (toolUse === undefined) return plain === undefined ? {} : { chat_template: plain };
  const named = { default: plain, tool_use: toolUse };
  const templates = Object.entries(named).map(([name, template]) => ({ name, template }));
  return { chat_template: templates.filter(({ template }) => template !== undefined) };
}

function jsonText(content: object): string {
  return `${JSON.stringify(content, null, 2)}\n`;
}

/**
 * Writes generation_config.json into `to`, where config.json is there already: that of the folder `from`, else what config.json
 * says of tokens; with `ends` among the tokens that end a text.
 */
export async function writeGenerationConfig(
  from: string,
  to: string,
  ends: readonly number[],
): Promise<void> {
  const config = await readJson(join(to, 'config.json'), json);
  const own = await readGenerationConfig(from);
  const named = ['bos_token_id', 'eos_token_id', 'pad_token_id'].filter(
    (key) => (config[key] ?? null) !== null,
  );
  const content = own ?? Object.fromEntries(named.map((key) => [key, config[key]]));
  await writeFileAtomic(join(to, 'generation_config.json'), jsonText(content));
  await addEndTokens(to, ends);
}
