/** What git-lfs leaves in the place of a large file that it did not fetch. */
import { UserError } from '../../base/errors.js';

const BEGIN = Buffer.from('version https://git-lfs.github.com/spec/');

/** Bytes from a file's start that are enough to know a pointer by. */
export const LFS_PREFIX_BYTES = BEGIN.length;

/** Throws UserError where a file that begins with these bytes is only a pointer of git-lfs. */
export function refuseLfsPointer(path: string, bytes: Uint8Array): void {
  if (Buffer.compare(bytes.subarray(0, BEGIN.length), BEGIN) !== 0) return;
  throw new UserError(`${path} is a pointer of git-lfs and not the file itself; fetch it with: git lfs pull`);
}
