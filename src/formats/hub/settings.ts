/** The hub's settings, from the environment variables that Hugging Face's own tools obey. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../../base/errors.js';

export interface HubSettings {
  /** Without a slash at its end. */
  endpoint: string;
  /** Folder of the cache, of which each repository has a folder. */
  cache: string;
  token?: string;
  /** Whether the network is left alone. */
  offline: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads HF_ENDPOINT, HF_HUB_CACHE (or HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME), HF_TOKEN (or the file that
 * `hf auth login` writes) and HF_HUB_OFFLINE.
 * @throws UserError for an endpoint that is no http address.
 */
export async function hubSettings(env: Environment = process.env): Promise<HubSettings> {
  const home =
    expand(env.HF_HOME) ?? join(expand(env.XDG_CACHE_HOME) ?? join(homedir(), '.cache'), 'huggingface');
  return {
    endpoint: endpointOf(env.HF_ENDPOINT || 'https://huggingface.co'),
    cache: expand(env.HF_HUB_CACHE) ?? expand(env.HUGGINGFACE_HUB_CACHE) ?? join(home, 'hub'),
    token: await tokenOf(env, home),
    offline: isTrue(env.HF_HUB_OFFLINE) || isTrue(env.TRANSFORMERS_OFFLINE),
  };
}

function endpointOf(text: string): string {
  const protocol = URL.canParse(text) ? new URL(text).protocol : '';
  if (!['http:', 'https:'].includes(protocol)) {
    throw new UserError(`HF_ENDPOINT is "${text}", expected an address such as https://huggingface.co`);
  }
  return text.replace(/\/+$/, '');
}

async function tokenOf(env: Environment, home: string): Promise<string | undefined> {
  const given = env.HF_TOKEN?.trim() || env.HUGGING_FACE_HUB_TOKEN?.trim();
  if (given) return given;
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  const saved = await readFile(expand(env.HF_TOKEN_PATH) ?? join(home, 'token'), 'utf8').catch(() => '');
  return saved.trim() || undefined;
}

/** A folder's name with ~ written out; undefined where the variable is not set. */
function expand(path: string | undefined): string | undefined {
  if (!path) return undefined;
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path;
}

function isTrue(value: string | undefined): boolean {
  return ['1', 'ON', 'YES', 'TRUE'].includes(value?.toUpperCase() ?? '');
}
