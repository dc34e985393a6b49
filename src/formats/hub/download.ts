/** A model or adapter from the Hugging Face hub, as a folder of its cache. */
import { readdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../../base/errors.js';
import { bytesText } from '../../base/text.js';
import { readJson } from '../io/node.js';
import { isWhole, RepositoryCache } from './cache.js';
import { HubUnreachable, hubFetch } from './http.js';
import { type HubId, hubIdText } from './id.js';
import { bytesLeft } from './partial.js';
import { DownloadMeter, type DownloadProgress } from './progress.js';
import { lookUp, type RemoteFile, type Repository } from './repository.js';
import { type HubKind, INDEX, kindOf, neededFiles } from './select.js';
import { type HubSettings, hubSettings } from './settings.js';
import { fetchBlob } from './transfer.js';

export interface HubOptions {
  /** What has to be there; default: an adapter where there is one, else a model. */
  kind?: HubKind;
  /** Told in a sentence what happens besides: that another process is waited for, that the cache has to do. */
  onNotice?: (message: string) => void;
  onDownload?: (progress: DownloadProgress) => void;
  /** Milliseconds before a request that failed is made again, doubled from try to try; default 1000. */
  pauseMs?: number;
}

/** Where a download puts its files. */
interface Place {
  id: HubId;
  settings: HubSettings;
  cache: RepositoryCache;
}

/**
 * The folder, or for an id of a file the file, in the hub's cache. Fetches what is missing; asks the hub each time
 * whether the revision has moved, and makes do with the cache where it cannot be asked (or HF_HUB_OFFLINE is set).
 * @throws UserError where there is no such repository, it needs an account, it holds nothing that is read here, the
 * connection fails for good (what came stays for the next time), or the disk is full.
 */
export async function fromHub(id: HubId, options: HubOptions = {}): Promise<string> {
  const settings = await hubSettings();
  const place = { id, settings, cache: new RepositoryCache(settings.cache, id.repo) };
  if (settings.offline) {
    return (
      (await cached(place, options)) ??
      fail(`the cache ${settings.cache} does not have all of ${hubIdText(id)}, and HF_HUB_OFFLINE is set`)
    );
  }
  let repository: Repository;
  try {
    repository = await lookUp(settings, id);
  } catch (error) {
    const found = error instanceof HubUnreachable ? await cached(place, options) : undefined;
    if (found === undefined) throw error;
    options.onNotice?.(`${(error as Error).message}; using ${hubIdText(id)} as the cache has it`);
    return found;
  }
  return download(place, repository, options);
}

function fail(message: string): never {
  throw new UserError(message);
}

/** What a person finds at a snapshot. */
function pathOf({ id, cache }: Place, commit: string): string {
  const snapshot = cache.snapshot(commit);
  return id.file === undefined ? snapshot : join(snapshot, id.file);
}

/** The same without the hub; undefined where it is not there in whole. */
async function cached(place: Place, { kind }: HubOptions): Promise<string | undefined> {
  const { id, cache } = place;
  const commit = await cache.commitOf(id.revision);
  if (commit === undefined) return undefined;
  const snapshot = cache.snapshot(commit);
  const there = async (name: string) =>
    (await stat(join(snapshot, name)).catch(() => undefined))?.isFile() === true;
  if (id.file !== undefined) return (await there(id.file)) ? pathOf(place, commit) : undefined;
  const names = new Set<string>();
  for (const name of await readdir(snapshot).catch(() => [])) if (await there(name)) names.add(name);
  try {
    const needed = neededFiles(hubIdText(id), names, kind ?? kindOf(names));
    const shards = needed.includes(INDEX) ? await shardsOf(join(snapshot, INDEX)) : [];
    return shards.every((shard) => names.has(shard)) ? snapshot : undefined;
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/** The shards that an index names. */
async function shardsOf(index: string): Promise<string[]> {
  return [...new Set(Object.values((await readJson(index, indexSchema)).weight_map))].sort();
}

async function download(place: Place, { commit, files }: Repository, options: HubOptions): Promise<string> {
  const { id, cache } = place;
  const text = hubIdText(id);
  const fileOf = (name: string): RemoteFile => files.get(name) ?? fail(`${text} has no file ${name}`);
  const names = new Set(files.keys());
  const needed = id.file === undefined ? neededFiles(text, names, options.kind ?? kindOf(names)) : [id.file];
  const fetchAll = async (some: readonly string[]) => {
    const missing = await missingOf(place, commit, new Map(some.map((name) => [name, fileOf(name)])));
    const meter = await meterFor(place, missing, options);
    for (const [name, file] of missing) await fetchOne(place, commit, name, file, meter, options);
  };
  if (needed.includes(INDEX)) await fetchAll([INDEX]);
  const shards = needed.includes(INDEX) ? await shardsOf(join(cache.snapshot(commit), INDEX)) : [];
  await fetchAll([...needed, ...shards]);
  await cache.setRef(id.revision, commit);
  return pathOf(place, commit);
}

async function missingOf(
  { cache }: Place,
  commit: string,
  files: ReadonlyMap<string, RemoteFile>,
): Promise<Map<string, RemoteFile>> {
  const missing = new Map<string, RemoteFile>();
  for (const [name, file] of files) {
    if (!(await isWhole(join(cache.snapshot(commit), name), file.size))) missing.set(name, file);
  }
  return missing;
}

/** Sums what is to come, and refuses where the disk has no room for it. */
async function meterFor(
  { id, settings, cache }: Place,
  files: ReadonlyMap<string, RemoteFile>,
  { onDownload }: HubOptions,
): Promise<DownloadMeter> {
  const total = [...files.values()].reduce((sum, { size }) => sum + size, 0);
  const meter = new DownloadMeter(hubIdText(id), total, onDownload ?? (() => {}));
  let left = total;
  for (const [name, file] of files) {
    const there = (await isWhole(cache.blob(file), file.size))
      ? file.size
      : await bytesLeft(cache.blobs, file.etag);
    meter.begin(name, Math.min(there, file.size));
    left -= Math.min(there, file.size);
  }
  const free = await freeBytes(settings.cache);
  if (left > free) {
    fail(
      `${hubIdText(id)} needs ${bytesText(left)} and the disk of ${settings.cache} has ${bytesText(free)} left`,
    );
  }
  return meter;
}

/** Of the disk that a folder is on, or will be; infinite where the system does not say. */
async function freeBytes(folder: string): Promise<number> {
  for (let at = folder; ; at = join(at, '..')) {
    const disk = await statfs(at).catch(() => undefined);
    if (disk !== undefined) return disk.bavail * disk.bsize;
    if (at === join(at, '..')) return Number.POSITIVE_INFINITY;
  }
}

async function fetchOne(
  { id, settings, cache }: Place,
  commit: string,
  name: string,
  file: RemoteFile,
  meter: DownloadMeter,
  { onNotice, pauseMs = 1000 }: HubOptions,
): Promise<void> {
  const path = name.split('/').map(encodeURIComponent).join('/');
  await fetchBlob({
    place: `${id.repo}/${name}`,
    url: `${settings.endpoint}/${id.repo}/resolve/${commit}/${path}`,
    file,
    blobs: cache.blobs,
    target: cache.blob(file),
    fetch: hubFetch(settings, id),
    onBytes: (bytes) => meter.at(name, bytes),
    onWait: () => onNotice?.(`another process is fetching ${name} of ${id.repo}: waiting for it`),
    pauseMs,
  });
  await cache.link(commit, name, file);
}
