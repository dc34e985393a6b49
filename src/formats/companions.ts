/** What belongs to a model beside its weights: configuration, tokenizer, templates. */
import { copyFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { exists } from './io/node.js';
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
}

/** Copies a tokenizer's files, as far as they are there. */
export async function copyTokenizer(from: string, to: string): Promise<void> {
  for (const file of TOKENIZER_FILES) {
    if (await exists(join(from, file))) await copyFile(join(from, file), join(to, file));
  }
}
