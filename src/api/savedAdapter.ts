/** The folder that an adapter of a model is saved in. */
import type { ChatTemplates } from '../formats/chat.js';
import { writeFolderAtomic } from '../formats/io/write.js';
import { writeRecipe } from '../formats/quant/recipe.js';
import type { Adapter } from '../methods/adapter.js';
import { writeAdapterFolder } from '../methods/files.js';
import { recordTemplates } from './adapterTemplates.js';
import type { ModelSource } from './modelOptions.js';

/**
 * Writes an adapter as a PEFT folder that names its base, with what that was quantized by, and the chat templates that it was
 * used with. Throws UserError where the folder exists, unless `overwrite`.
 */
export async function writeAdapterOf(
  { name, recipe, templates }: ModelSource,
  adapter: Adapter,
  chatTemplates: ChatTemplates,
  folder: string,
  overwrite: boolean,
): Promise<void> {
  const write = async (temporary: string) => {
    await writeAdapterFolder(temporary, adapter, name);
    if (recipe) await writeRecipe(temporary, recipe);
    await recordTemplates(temporary, chatTemplates, templates);
  };
  await writeFolderAtomic(folder, write, { overwrite });
}
