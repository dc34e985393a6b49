import { join } from 'node:path';
import { UserError } from '../base/errors.js';
import { readChatTemplate } from '../formats/chatTemplates.js';
import { readGenerationConfig } from '../formats/generationConfig.js';
import { loadTokenizer } from '../formats/tokenizer.js';
import { forTask } from '../models/forTask.js';
import { checkArguments } from './arguments.js';
import { baseName } from './locate.js';
import { Model } from './model.js';
import type { LoadOptions } from './modelOptions.js';
import { openBase, recipeOf, resolveBase } from './quantizedBase.js';
import { taskFor } from './task.js';

/**
 * Opens a model: a Hugging Face folder, a GGUF file (converted once into a cache), or a hub id as
 * `HuggingFaceTB/SmolLM2-135M-Instruct` (fetched once into the hub's cache; a folder of that name wins). Weights stay
 * on disk until a graph maps them; with `quantize` the linear layers are those of a quantized copy, made once into the
 * cache. Throws UserError naming the file where something is missing or unsupported.
 */
export async function loadModel(path: string, options: LoadOptions = {}): Promise<Model> {
  checkArguments('loadModel', [path, options]);
  const resolved = await resolveBase(path, options);
  const { folder, original } = resolved;
  const opened = await openBase(resolved, options);
  const { task } = options;
  const base = task ? forTask(opened, await taskFor(opened, task, task.labelsOf)) : opened;
  const own = await loadTokenizer(folder);
  const { chatTemplate } = options;
  const tokenizer =
    chatTemplate === undefined ? own : own.withTemplates(await readChatTemplate(chatTemplate));
  if (tokenizer.vocabSize > base.config.vocabSize) {
    const last = JSON.stringify(tokenizer.tokenOf(tokenizer.vocabSize - 1) ?? '');
    throw new UserError(
      `${folder}: the tokenizer has ${tokenizer.vocabSize} tokens, the last of them ${last}, config.json a vocab_size of ${base.config.vocabSize}`,
    );
  }
  const source = {
    name: await baseName(path),
    original,
    recipe: await recipeOf(base),
    templates: own.chatTemplates,
  };
  const content = (await readGenerationConfig(folder)) ?? {};
  const generation = { place: join(folder, 'generation_config.json'), content, onNotice: options.onNotice };
  return new Model(base, { tokenizer, folder, model: folder }, options, source, generation);
}
