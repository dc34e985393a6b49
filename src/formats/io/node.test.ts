import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import { exists, readInto, writeFileAtomic, writeFolderAtomic, writeStreamAtomic } from './node.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-io-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const diskFull = () =>
  Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC', syscall: 'write' });

describe('writeStreamAtomic and writeFileAtomic', () => {
  it('writes whole files, makes folders, replaces, and leaves nothing beside', async () => {
    const path = join(dir, 'a', 'b.txt');
    await writeFileAtomic(path, 'one');
    await writeFileAtomic(path, new Uint8Array([0x74, 0x77, 0x6f]));
    expect(await readFile(path, 'utf8')).toBe('two');
    await writeStreamAtomic(path, async (write) => {
      for (const word of ['x', 'yy', '']) await write(Buffer.from(word));
      await write(new Uint8Array(new SharedArrayBuffer(2)));
    });
    expect(await readFile(path, 'latin1')).toBe('xyy\0\0');
    expect(await readdir(join(dir, 'a'))).toEqual(['b.txt']);
  });

  it('keeps the old file and drops the temporary when the disk fills', async () => {
    const path = join(dir, 'kept');
    await writeFileAtomic(path, 'old');
    const failing = writeStreamAtomic(path, async (write) => {
      await write(Buffer.from('new'));
      throw diskFull();
    });
    await expect(failing).rejects.toThrow(new UserError(`cannot write ${path}: the disk is full`));
    expect(await readFile(path, 'utf8')).toBe('old');
    expect(await readdir(dir)).toEqual(['kept']);
  });

  it('passes on an error that is not about files', async () => {
    const failing = writeStreamAtomic(join(dir, 'x'), () => Promise.reject(new TypeError('a bug')));
    await expect(failing).rejects.toThrow(TypeError);
    expect(await readdir(dir)).toEqual([]);
  });

  it('names a path below a file', async () => {
    await writeFile(join(dir, 'file'), '');
    const path = join(dir, 'file', 'x');
    await expect(writeFileAtomic(path, '')).rejects.toThrow(/^cannot write .*file\/x: /);
    await expect(writeFileAtomic(path, '')).rejects.toThrow(UserError);
  });
});

describe('writeFolderAtomic', () => {
  const fill = (text: string) => async (temporary: string) => {
    await mkdir(join(temporary, 'sub'));
    await writeFile(join(temporary, 'sub', 'f'), text);
  };

  it('refuses an existing target unless asked, and then replaces it whole', async () => {
    const out = join(dir, 'deep', 'out');
    await writeFolderAtomic(out, fill('one'));
    await writeFile(join(out, 'stale'), '');
    await expect(writeFolderAtomic(out, fill('two'))).rejects.toThrow(
      new UserError(`${out} exists already; choose another output, or ask to overwrite it`),
    );
    expect(await readFile(join(out, 'sub', 'f'), 'utf8')).toBe('one');
    await writeFolderAtomic(out, fill('two'), { overwrite: true });
    expect(await readdir(out)).toEqual(['sub']);
    expect(await readFile(join(out, 'sub', 'f'), 'utf8')).toBe('two');
    expect(await readdir(join(dir, 'deep'))).toEqual(['out']);
  });

  it('leaves the old folder and no temporary when filling fails', async () => {
    const out = join(dir, 'out');
    await writeFolderAtomic(out, fill('old'));
    const failing = writeFolderAtomic(
      out,
      async (temporary) => {
        await fill('new')(temporary);
        throw diskFull();
      },
      { overwrite: true },
    );
    await expect(failing).rejects.toThrow(new UserError(`cannot write ${out}: the disk is full`));
    expect(await readdir(dir)).toEqual(['out']);
    expect(await readFile(join(out, 'sub', 'f'), 'utf8')).toBe('old');
  });

  it('names the file of the target, not of the temporary, when a write inside it fails', async () => {
    const out = join(dir, 'out');
    const failing = writeFolderAtomic(out, (temporary) =>
      writeStreamAtomic(join(temporary, 'f'), () => Promise.reject(diskFull())),
    );
    await expect(failing).rejects.toThrow(new UserError(`cannot write ${join(out, 'f')}: the disk is full`));
    expect(await readdir(dir)).toEqual([]);
  });

  it('overwrites through a link to a folder, not the link', async () => {
    await writeFolderAtomic(join(dir, 'real'), fill('old'));
    await symlink('real', join(dir, 'link'));
    await writeFolderAtomic(join(dir, 'link'), fill('new'), { overwrite: true });
    expect(await readFile(join(dir, 'real', 'sub', 'f'), 'utf8')).toBe('new');
  });

  it('never overwrites a file, nor a folder that holds the working folder', async () => {
    await writeFile(join(dir, 'file'), 'x');
    await expect(writeFolderAtomic(join(dir, 'file'), fill(''), { overwrite: true })).rejects.toThrow(
      /is a file, not a folder/,
    );
    await expect(writeFolderAtomic('..', fill(''), { overwrite: true })).rejects.toThrow(
      /is not overwritten/,
    );
    await expect(writeFolderAtomic('.', fill(''), { overwrite: true })).rejects.toThrow(UserError);
  });
});

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
      new UserError(`cannot read ${dir}: it is not a file`),
    );
    const gone = join(dir, 'gone');
    expect(await exists(gone)).toBe(false);
    await expect(readInto(gone, new Uint8Array(1), 0)).rejects.toThrow(
      new UserError(`cannot read ${gone}: there is no such file or folder`),
    );
  });
});
