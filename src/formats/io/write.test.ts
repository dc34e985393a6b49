import { statSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../../base/errors.js';
import {
  makeFolder,
  makeOnce,
  prepareOutput,
  writeFileAtomic,
  writeFolderAtomic,
  writeStreamAtomic,
} from './write.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-write-'));
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

  it('says that another process wrote the folder meanwhile, and leaves that', async () => {
    const out = join(dir, 'raced');
    const slow = writeFolderAtomic(out, async (temporary) => {
      await writeFile(join(temporary, 'a'), 'slow');
      await writeFolderAtomic(out, (other) => writeFile(join(other, 'a'), 'quick'));
    });
    await expect(slow).rejects.toThrow(
      new UserError(`${out} was written by another process meanwhile; what this one made is dropped`),
    );
    expect(await readFile(join(out, 'a'), 'utf8')).toBe('quick');
  });

  it('refuses an existing target unless asked, and then replaces it whole', async () => {
    const out = join(dir, 'deep', 'out');
    await writeFolderAtomic(out, fill('one'));
    await writeFile(join(out, 'stale'), '');
    await expect(writeFolderAtomic(out, fill('two'))).rejects.toThrow(
      new UserError(`${out} exists already; choose another output, or replace it by the option "overwrite"`),
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

describe('a folder that is there', () => {
  const fill = (text: string) => (temporary: string) => writeFile(join(temporary, 'f'), text);

  it('is filled where it is empty, a fresh disk with its lost+found too', async () => {
    const out = join(dir, 'out');
    await mkdir(join(out, 'lost+found'), { recursive: true });
    await writeFolderAtomic(out, fill('new'));
    expect((await readdir(out)).sort()).toEqual(['f', 'lost+found']);
    await expect(writeFolderAtomic(out, fill('newer'))).rejects.toThrow(/exists already/);
  });

  it('is replaced by its entries, itself staying, as the root of a disk has to', async () => {
    const out = join(dir, 'out');
    await mkdir(join(out, 'sub'), { recursive: true });
    const before = statSync(out).ino;
    await writeFolderAtomic(out, fill('new'), { overwrite: true });
    expect([await readdir(out), statSync(out).ino]).toEqual([['f'], before]);
    expect(await readdir(dir)).toEqual(['out']);
  });
});

describe('prepareOutput', () => {
  it('refuses at once what can hold no files', async () => {
    await writeFile(join(dir, 'file'), '');
    const file = join(dir, 'file');
    await expect(prepareOutput(join(file, 'x', 'y'))).rejects.toThrow(
      new UserError(`cannot write ${join(file, 'x', 'y')}: ${file} is not a folder`),
    );
    await expect(prepareOutput('/dev/null/x')).rejects.toThrow('/dev/null is not a folder');
  });

  it.runIf(process.platform === 'linux')('refuses /proc, where making folders never ended', async () => {
    await expect(prepareOutput('/proc/x')).rejects.toThrow(
      new UserError('cannot write /proc/x: /proc takes no files'),
    );
    await expect(makeFolder('/proc/x/y')).rejects.toThrow(UserError);
  });

  it('changes nothing', async () => {
    await prepareOutput(join(dir, 'deep', 'out'));
    await mkdir(join(dir, 'out'));
    await prepareOutput(join(dir, 'out'));
    expect([await readdir(dir), await readdir(join(dir, 'out'))]).toEqual([['out'], []]);
  });
});

describe('makeOnce', () => {
  it('makes an entry once for all who ask at the same time', async () => {
    let [made, waited] = [0, 0];
    const entry = join(dir, 'cache', 'entry');
    const make = () =>
      writeFolderAtomic(entry, async (temporary) => {
        made++;
        await new Promise((resolve) => setTimeout(resolve, 300));
        await writeFile(join(temporary, 'f'), 'x');
      });
    const onWait = () => {
      waited++;
    };
    await Promise.all([1, 2, 3].map(() => makeOnce(entry, make, { onWait })));
    expect([made, waited]).toEqual([1, 2]);
    expect(await readdir(join(dir, 'cache'))).toEqual(['entry']);
  });

  it('lets the next one try where it fails', async () => {
    const entry = join(dir, 'entry');
    await expect(makeOnce(entry, () => Promise.reject(new UserError('no')))).rejects.toThrow('no');
    await makeOnce(entry, () => writeFileAtomic(entry, 'x'));
    expect(await readdir(dir)).toEqual(['entry']);
  });
});
