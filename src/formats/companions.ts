/** What belongs to a model beside its weights: configuration, tokenizer, templates. */
import { copyFile, mkdir, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TEMPLATE_FOLDER } from './chatTemplates.js';
import { exists } from './io/node.js';
import { copyModuleFolders, MODULES_FILE } from './sentenceModules.js';
import { TOKENIZER_FILES } from './tokenizer.js';

const COMPANIONS = /^(?!.*\.safetensors\.index\.json$).*\.(json|jinja|model|txt)$/;

/** Copies them from one model folder into another, those named in `except` left out. */
export async function copyCompanions(
  from: string,
  to: string,
  except: readonly string[] = [],
): Promise<void> {
  for (const file of await readdir(from)) {
    if (!COMPANIONS.test(file) || except.includes(file)) continue;
    const path = join(from, file);
    if ((await stat(path)).isFile()) await copyFile(path, join(to, file));
  }
  if (!except.includes(MODULES_FILE)) await copyModuleFolders(from, to);
  if (!(await exists(join(from, TEMPLATE_FOLDER)))) return;
  await mkdir(join(to, TEMPLATE_FOLDER));
  for (const name of await readdir(join(from, TEMPLATE_FOLDER))) {
    const file = `${TEMPLATE_FOLDER}/${name}`;
    if (name.endsWith('.jinja') && !except.includes(file)) await copyFile(join(from, file), join(to, file));
  }
}

/** Copies a tokenizer's files, as far as they are there. */
export async function copyTokenizer(from: string, to: string): Promise<void> {
  for (const file of TOKENIZER_FILES) {
    if (!(await exists(join(from, file)))) continue;
    await mkdir(dirname(join(to, file)), { recursive: true });
    await copyFile(join(from, file), join(to, file));
  }
}
