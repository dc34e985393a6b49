/** Reads the tokenizer of a Hugging Face folder. */
import { join } from 'node:path';
import type * as z from 'zod';
import { UserError } from '../base/errors.js';
import { readChatTemplates, TEMPLATE_FILES } from './chatTemplates.js';
import { withDeadline } from './io/deadline.js';
import { exists, readJson } from './io/node.js';
import {
  addedTokensFileSchema,
  specialTokensMapSchema,
  Tokenizer,
  tokenIdsSchema,
  tokenizerConfigSchema,
  tokenizerJsonSchema,
} from './tokenizerCore.js';

export { StreamDecoder, type StreamOptions } from './streamDecoder.js';

export {
  type DecodeOptions,
  type EncodeOptions,
  Tokenizer,
} from './tokenizerCore.js';

/** A tokenizer, and the folder that it is read from. */
export interface TokenizerOf {
  tokenizer: Tokenizer;
  folder: string;
  /** The folder of the model that it is for, which tells what ends a turn. */
  model: string;
}

/** Files of a folder that say which ids a text becomes. */
export const TOKENIZER_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  ...Object.values(TEMPLATE_FILES),
];

/**
 * The tokenizer of a model's folder: tokenizer.json, and as far as they are there tokenizer_config.json,
 * special_tokens_map.json, added_tokens.json, generation_config.json, config.json and chat_template.jinja. The two that tell
 * of the model are in `model`, where that is another folder.
 * @throws UserError that names the file, what was found and what was expected.
 */
export async function loadTokenizer(folder: string, model = folder): Promise<Tokenizer> {
  const place = join(folder, 'tokenizer.json');
  if (!(await exists(place)))
    throw new UserError(`${folder} has no tokenizer.json, so its model has no tokenizer`);
  const optional = async <T>(name: string, schema: z.ZodType<T>, within = folder): Promise<T | undefined> => {
    const path = join(within, name);
    return (await exists(path)) ? readJson(path, schema) : undefined;
  };
  return new Tokenizer({
    tokenizer: await readJson(place, tokenizerJsonSchema),
    config: await optional('tokenizer_config.json', tokenizerConfigSchema),
    specialTokensMap: await optional('special_tokens_map.json', specialTokensMapSchema),
    addedTokens: await optional('added_tokens.json', addedTokensFileSchema),
    generationConfig: await optional('generation_config.json', tokenIdsSchema, model),
    modelConfig: await optional('config.json', tokenIdsSchema, model),
    templates: await readChatTemplates(folder),
    place,
    deadline: withDeadline,
  });
}
