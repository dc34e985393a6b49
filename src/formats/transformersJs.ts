/** What transformers.js, version 4, finds in a model's folder beside its ONNX files, and by which names. */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
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

/** Types of models that it knows, of those that there are here. */
const KNOWN: ReadonlySet<string> = new Set([
  ...['llama', 'mistral', 'qwen2', 'qwen3', 'smollm3', 'granite', 'olmo2', 'phi3'],
  ...['gemma', 'gemma2', 'gemma3_text', 'gpt2', 'gpt_neox'],
  ...['bert', 'roberta', 'xlm-roberta', 'distilbert', 'deberta-v2', 'modernbert'],
]);

/** Throws UserError for a type of model that transformers.js does not load. */
export function refuseUnknownType(modelType: string): void {
  if (KNOWN.has(modelType)) return;
  throw new UserError(
    `a model of type ${modelType} cannot be exported: it is none of those that are here and in transformers.js, ${[...KNOWN].join(', ')}`,
  );
}

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
  return `${JSON.stringify(content, null, 2)}\n`;
}

/**
 * Writes the tokenizer of the folder `from` into `to`, as it reads it: tokenizer.json as it is, and in tokenizer_config.json what
 * else stands in the files beside it, special tokens and the chat template.
 */
export async function writeTokenizer(
  from: string,
  to: string,
  tokenizer: Tokenizer | undefined,
  modelType: string,
): Promise<void> {
  if (!(await exists(join(from, 'tokenizer.json')))) return;
  await copyFile(join(from, 'tokenizer.json'), join(to, 'tokenizer.json'));
  const optional = async (name: string): Promise<Json> =>
    (await exists(join(from, name))) ? readJson(join(from, name), json) : {};
  const config = await optional('tokenizer_config.json');
  const special = await optional('special_tokens_map.json');
  const templates = tokenizer ? tokenizer.chatTemplates : await readChatTemplates(from);
  const { plain, toolUse } = templates ?? {};
  const listed = [
    { name: 'default', template: plain },
    { name: 'tool_use', template: toolUse },
  ].filter(({ template }) => template !== undefined);
  const { chat_template: _, ...kept } = config;
  const content = {
    // Types of tokens are given by this class alone.
    ...(modelType === 'bert' && { tokenizer_class: 'BertTokenizer' }),
    ...special,
    ...kept,
    ...(listed.length > 0 && { chat_template: toolUse === undefined ? plain : listed }),
  };
  await writeFileAtomic(join(to, 'tokenizer_config.json'), `${JSON.stringify(content, null, 2)}\n`);
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
  await writeFileAtomic(join(to, 'generation_config.json'), `${JSON.stringify(content, null, 2)}\n`);
  await addEndTokens(to, ends);
}
