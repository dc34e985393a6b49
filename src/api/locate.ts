import { createHash } from 'node:crypto';
import { realpath, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '../base/errors.js';
import { ggufToHf } from '../formats/gguf/tohf.js';
import { exists } from '../formats/io/node.js';

/** The small model that ships with the package, and the demo's data. */
export const embeddedModel = fileURLToPath(new URL('../../assets/base', import.meta.url));
export const demoData = fileURLToPath(new URL('../../assets/demo', import.meta.url));

/** Where converted models are kept: LOWRANK_CACHE, or .cache/lowrank in the home folder. */
export function cacheFolder(): string {
  return process.env.LOWRANK_CACHE ?? join(homedir(), '.cache', 'lowrank');
}

/**
 * The Hugging Face folder that `path` means: itself, or for a GGUF file its conversion, made once and kept in the
 * cache; "demo" is the embedded model. Throws UserError where there is nothing.
 */
export async function resolveModelFolder(
  path: string,
  onNotice?: (message: string) => void,
): Promise<string> {
  if (path === 'demo') return embeddedModel;
  if (!(await exists(path)))
    throw new UserError(`there is no model at ${path}, expected a folder or a .gguf file`);
  const info = await stat(path);
  if (info.isDirectory()) return path;
  if (!path.endsWith('.gguf')) throw new UserError(`${path} is not a model folder or a .gguf file`);
  const key = createHash('sha256')
    .update(`${await realpath(path)} ${info.size} ${info.mtimeMs}`)
    .digest('hex');
  const folder = join(cacheFolder(), `gguf-${key.slice(0, 16)}`);
  if (!(await exists(folder))) {
    onNotice?.(`converting ${path} once into ${folder}`);
    await ggufToHf(path, folder, { dtype: 'float32' });
  }
  return folder;
}
