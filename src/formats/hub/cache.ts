/**
 * The cache that Hugging Face's tools share: models--owner--name with blobs by content hash, snapshots/COMMIT of links to
 * them, and refs that say which commit a branch was last.
 */
import { readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileError } from '../io/node.js';
import { ended, sweep, temporaryFor } from '../io/staging.js';
import { makeFolder, writeFileAtomic } from '../io/write.js';
import { COMMIT, type RemoteFile } from './repository.js';

/** Whether there is a file of that many bytes, links followed. */
export async function isWhole(path: string, size: number): Promise<boolean> {
  const info = await stat(path).catch(() => undefined);
  return info?.isFile() === true && info.size === size;
}

/** The cache's folder of one repository. */
export class RepositoryCache {
  readonly folder: string;
  readonly blobs: string;

  constructor(cache: string, repo: string) {
    this.folder = join(cache, ['models', ...repo.split('/')].join('--'));
    this.blobs = join(this.folder, 'blobs');
  }

  blob({ etag }: RemoteFile): string {
    return join(this.blobs, etag);
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  /** The commit that a revision was when it was last fetched whole. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (COMMIT.test(revision)) return revision;
    const text = await readFile(join(this.folder, 'refs', revision), 'utf8').catch(() => '');
    return COMMIT.test(text.trim()) ? text.trim() : undefined;
  }

  /** Notes that a branch or tag is at a commit. */
  async setRef(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commitOf(revision)) === commit) return;
    const ref = join(this.folder, 'refs', revision);
    await sweep(dirname(ref));
    await writeFileAtomic(ref, commit);
  }

  /** Puts a blob into a snapshot under its name: as a link, or where the system allows none, itself. */
  async link(commit: string, name: string, file: RemoteFile): Promise<void> {
    const [target, blob] = [join(this.snapshot(commit), name), this.blob(file)];
    await makeFolder(dirname(target));
    await sweep(dirname(target));
    const temporary = temporaryFor(target);
    try {
      try {
        await symlink(relative(dirname(target), blob), temporary);
        await rename(temporary, target);
      } catch (error) {
        await rm(temporary, { force: true });
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'EPERM' && code !== 'ENOSYS' && code !== 'ENOTSUP') throw error;
        await rename(blob, target);
      }
    } catch (error) {
      throw fileError('write', target, error);
    } finally {
      ended(temporary);
    }
  }
}
