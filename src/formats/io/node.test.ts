import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { exists, readInto } from './node.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-io-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('readInto', () => {
  it('reads from a position, and says where a short file ends', async () => {
    const path = join(dir, 'f');
    await writeFile(path, 'abcdef');
    const target = new Uint8Array(3);
    await readInto(path, target, 2);
    expect(Buffer.from(target).toString()).toBe('cde');
    await expect(readInto(path, target, 5)).rejects.toThrow(
      new UserError(`${path} ends at byte 6, where 2 more bytes should be`),
    );
  });

  it('refuses what is not a file', async () => {
    await expect(readInto(dir, new Uint8Array(1), 0)).rejects.toThrow(
      new UserError(`cannot read ${dir}: it is a folder`),
    );
    const gone = join(dir, 'gone');
    expect(await exists(gone)).toBe(false);
    await expect(readInto(gone, new Uint8Array(1), 0)).rejects.toThrow(
      new UserError(`cannot read ${gone}: there is no such file or folder`),
    );
  });

  it('refuses pipes, devices and sockets at once', async () => {
    const pipe = join(dir, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const socket = join(dir, 'socket');
    const server = createServer().listen(socket);
    await once(server, 'listening');
    for (const path of [pipe, '/dev/zero', socket]) {
      await expect(readInto(path, new Uint8Array(1), 0)).rejects.toThrow(/not a regular file$/);
    }
    server.close();
  });
});
