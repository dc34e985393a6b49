/** What the hub says of a repository: its commit and the files of a folder of it. */
import * as z from 'zod';
import { messageOf, UserError } from '../../base/errors.js';
import { checkJson } from '../io/json.js';
import { HubUnreachable, hubFetch, networkReason } from './http.js';
import type { HubId } from './id.js';
import type { HubSettings } from './settings.js';

/** A file of a repository. */
export interface RemoteFile {
  /** Bytes. */
  size: number;
  /** Its name in the cache: the SHA-256 of a large file, else git's SHA-1. */
  etag: string;
}

export interface Repository {
  /** 40 hexadecimal digits. */
  commit: string;
  /** By path. */
  files: Map<string, RemoteFile>;
}

export const COMMIT = /^[0-9a-f]{40}$/;

/** More than any model's folder has; keeps an endless listing from filling the memory. */
const MAX_FILES = 20_000;

/** Names that stay in their folder, on every system. */
const SAFE_PATH = /^(?!.*(?:^|\/)\.{0,2}(?:\/|$))[^\\:\0]+$/;

const commitSchema = z.string().regex(COMMIT, 'expected the hash of a commit');
const entrySchema = z.object({
  type: z.string(),
  path: z.string(),
  size: z.int().nonnegative().default(0),
  oid: z
    .string()
    .regex(/^[0-9a-f]{40}$/, 'expected a SHA-1')
    .optional(),
  lfs: z
    .object({
      oid: z.string().regex(/^(?:sha256:)?[0-9a-f]{64}$/, 'expected a SHA-256'),
      size: z.int().nonnegative(),
    })
    .optional(),
});

/**
 * Asks the hub for the commit of `id.revision` and the files beside `id.file`, or in the topmost folder.
 * @throws HubUnreachable without a network; UserError where there is no such repository or revision, it is not to be
 * seen, or the answer is none of a hub's.
 */
export async function lookUp(settings: HubSettings, id: HubId): Promise<Repository> {
  // Loaded only where it is needed: most jobs never ask the hub.
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  const common = { hubUrl: settings.endpoint, fetch: hubFetch(settings, id) };
  const place = `the answer of ${settings.endpoint}`;
  try {
    const { sha } = await modelInfo({
      name: id.repo,
      revision: id.revision,
      additionalFields: ['sha'],
      ...common,
    });
    const commit = checkJson(`${place}, sha`, sha, commitSchema);
    const path = id.file?.includes('/') ? id.file.replace(/\/[^/]*$/, '') : undefined;
    const files = new Map<string, RemoteFile>();
    for await (const one of listFiles({
      repo: { type: 'model', name: id.repo },
      revision: commit,
      path,
      ...common,
    })) {
      const { type, path: name, size, oid, lfs } = checkJson(place, one as unknown, entrySchema);
      if (type !== 'file' || !SAFE_PATH.test(name)) continue;
      if (lfs !== undefined) files.set(name, { size: lfs.size, etag: lfs.oid.replace('sha256:', '') });
      else if (oid !== undefined) files.set(name, { size, etag: oid });
      if (files.size > MAX_FILES) throw new UserError(`${place} lists more than ${MAX_FILES} files`);
    }
    return { commit, files };
  } catch (error) {
    if (error instanceof UserError) throw error;
    const cut = error instanceof Error && ['TimeoutError', 'AbortError'].includes(error.name);
    if (cut || messageOf(error) === 'terminated') {
      throw new HubUnreachable(`cannot reach ${settings.endpoint}: ${networkReason(error)}`);
    }
    throw new UserError(`${place} is not a hub's: ${messageOf(error)}`);
  }
}
