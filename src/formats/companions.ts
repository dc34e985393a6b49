/** What belongs to a model beside its weights: configuration, tokenizer, templates. */
import { copyFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

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
