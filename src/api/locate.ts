import { createHash } from 'node:crypto';
import { realpath, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { fromHub, type HubOptions } from '../formats/hub/download.js';
import { parseHubId } from '../formats/hub/id.js';
import type { HubKind } from '../formats/hub/select.js';
import { exists, readJson } from '../formats/io/node.js';
import { sweep } from '../formats/io/staging.js';
import { makeOnce } from '../formats/io/write.js';
import { ggufToHf } from '../models/gguf/file.js';

/** The small model that ships with the package, and the demo's data. */
export const embeddedModel = fileURLToPath(new URL('../../assets/base', import.meta.url));
export const demoData = fileURLToPath(new URL('../../assets/demo', import.meta.url));

/** Where converted models are kept: LOWRANK_CACHE, or .cache/lowrank in the home folder. */
export function cacheFolder(): string {
  return process.env.LOWRANK_CACHE ?? join(homedir(), '.cache', 'lowrank');
}

/** What a search may tell on its way. */
export type LocateOptions = Pick<HubOptions, 'onNotice' | 'onDownload'>;

/**
 * The folder or file on this disk that `path` means: itself where it is there, the embedded model for "demo", and for a
 * hub id ("owner/name", "hf:owner/name@revision", "hf:owner/name/file.gguf") what the hub's cache has of it, fetched
 * where it is missing. Throws UserError where there is nothing; `kind` is what a repository has to hold.
 */
export async function locate(
  path: string,
  { kind, onNotice, onDownload }: LocateOptions & { kind?: HubKind } = {},
): Promise<string> {
  if (path === 'demo' && kind !== 'adapter') return embeddedModel;
  if (await exists(path)) {
    // A process that died while it replaced what is there may have left some of it aside.
    await sweep(path);
    if (kind === 'model') await refuseAdapter(path);
    return path;
  }
  const id = parseHubId(path);
  if (id === undefined) throw new UserError(`there is ${nothing(kind)} at ${path}`);
  try {
    return await fromHub(id, { kind, onNotice, onDownload });
  } catch (error) {
    // Who mistyped a folder's name should not have to wonder what the hub is.
    if (!(error instanceof UserError) || path.startsWith('hf:')) throw error;
    throw new UserError(`there is ${nothing(kind)} at ${path}, and as a hub id: ${error.message}`);
  }
}

/** Throws UserError where a folder holds an adapter and no model. */
async function refuseAdapter(folder: string): Promise<void> {
  const config = join(folder, 'adapter_config.json');
  if (!(await exists(config)) || (await exists(join(folder, 'config.json')))) return;
  const { base_model_name_or_path: base } = await readJson(config, adapterOf);
  throw new UserError(
    `${folder} is an adapter and not a model: name the model that it is for${base ? ` (${base})` : ''}, and it with --adapter`,
  );
}

const adapterOf = z.looseObject({ base_model_name_or_path: z.string().nullish().catch(undefined) });

function nothing(kind?: HubKind): string {
  if (kind === undefined) return 'nothing';
  return kind === 'model' ? 'no model' : 'no adapter';
}

/**
 * The Hugging Face folder that `path` means, by `locate`; a GGUF file is converted once into the cache. Throws UserError
 * where there is nothing.
 */
export async function resolveModelFolder(path: string, options: LocateOptions = {}): Promise<string> {
  const at = await locate(path, { kind: 'model', ...options });
  const info = await stat(at);
  if (info.isDirectory()) return at;
  if (!at.endsWith('.gguf')) throw new UserError(`${path} is not a model folder or a .gguf file`);
  const key = createHash('sha256')
    .update(`${await realpath(at)} ${info.size} ${info.mtimeMs}`)
    .digest('hex');
  const folder = join(cacheFolder(), `gguf-${key.slice(0, 16)}`);
  const convert = async () => {
    options.onNotice?.(`converting ${path} once into ${folder}`);
    await ggufToHf(at, folder, { dtype: 'float32' });
  };
  const onWait = () => options.onNotice?.(`another process is converting ${path}: waiting for it`);
  await makeOnce(folder, convert, { onWait });
  return folder;
}

/**
 * What an adapter should record as its base for a model that was loaded as `path`: a hub id as PEFT writes it, anything
 * else as it is.
 */
export async function baseName(path: string): Promise<string> {
  if (path === 'demo' || (await exists(path))) return path;
  const id = parseHubId(path);
  return id === undefined || id.file !== undefined ? path : id.repo;
}
