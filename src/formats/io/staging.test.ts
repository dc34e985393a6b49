import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { describeHolder, holderOf, Lock } from './lock.js';
import { lifeOf, markOf, type Owner, self } from './owner.js';
import { discard, isLeft, replaceEntries, type Stage, stagedIn, stagedPath, sweep } from './staging.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lowrank-staging-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** A process of this number that started at another time: it is gone. */
const dead: Owner = { ...self, start: self.start + 1 };
const elsewhere: Owner = { ...self, machine: 'deadbeef' };

const named = (owner: Owner, stage: Stage, what = 'out') =>
  join(dir, `.${what}.lowrank-${markOf(owner)}-0123456789ab.${stage}`);

/** Makes folders and files, a text for each. */
async function tree(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  await mkdir(root, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  }
}

async function contents(root: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(root, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    if (entry.isFile()) found[path.slice(root.length + 1)] = await readFile(path, 'utf8');
  }
  return found;
}

describe('owners', () => {
  it('are alive, dead, or of somewhere else', () => {
    expect(lifeOf(self)).toBe('alive');
    expect(lifeOf(dead)).toBe('dead');
    expect(lifeOf({ ...self, pid: 2 ** 30 })).toBe('dead');
    expect(lifeOf({ ...self, boot: '00000000' })).toBe('dead');
    expect(lifeOf(elsewhere)).toBe('unknown');
    expect(lifeOf({ ...self, space: 'abcdef01' })).toBe('unknown');
  });

  it.runIf(process.platform === 'linux')('a number that another process has got by now is dead', () => {
    expect(lifeOf({ ...self, pid: process.ppid })).toBe('dead');
  });
});

describe('sweep', () => {
  it('removes what dead processes left, and nothing else', async () => {
    const mine = stagedPath(dir, 'out', 'tmp');
    await tree(mine, { f: 'under way' });
    await tree(named(dead, 'tmp'), { 'sub/f': 'left' });
    await writeFile(named(dead, 'lock'), '');
    await writeFile(join(dir, '.out.0123456789ab.tmp'), 'of another program');
    await sweep(dir);
    expect(await contents(dir)).toEqual({
      [`${mine.slice(dir.length + 1)}/f`]: 'under way',
      '.out.0123456789ab.tmp': 'of another program',
    });
  });

  it('leaves what may be under way on another machine, until nothing happens there', async () => {
    const path = named(elsewhere, 'tmp');
    await tree(path, { f: 'x' });
    await sweep(dir);
    expect(await stagedIn(dir)).toHaveLength(1);
    const longAgo = new Date(Date.now() - 2 * 3600_000);
    await utimes(path, longAgo, longAgo);
    await sweep(dir);
    // The file in it is younger.
    expect(await stagedIn(dir)).toHaveLength(1);
    await utimes(join(path, 'f'), longAgo, longAgo);
    await sweep(dir);
    expect(await readdir(dir)).toEqual([]);
  });

  it('puts back what was moved aside before all of it was', async () => {
    await tree(named(dead, 'old'), { a: 'old a', 'sub/b': 'old b' });
    await tree(named(dead, 'tmp'), { a: 'new a' });
    await tree(dir, { c: 'old c' });
    await sweep(dir);
    expect(await contents(dir)).toEqual({ a: 'old a', 'sub/b': 'old b', c: 'old c' });
    expect((await readdir(dir)).sort()).toEqual(['a', 'c', 'sub']);
  });

  it('moves up the rest of what was finished', async () => {
    await tree(named(dead, 'old'), { a: 'old a', b: 'old b' });
    await tree(named(dead, 'new'), { 'sub/b': 'new b', 'config.json': '{}' });
    await tree(dir, { a: 'new a' });
    await sweep(dir);
    expect(await contents(dir)).toEqual({ a: 'new a', 'sub/b': 'new b', 'config.json': '{}' });
  });

  it('does not put back what was replaced to the end', async () => {
    await tree(named(dead, 'tmp'), { a: 'old a', b: 'old b' });
    await mkdir(named(dead, 'new'));
    await tree(dir, { a: 'new a' });
    await sweep(dir);
    expect(await contents(dir)).toEqual({ a: 'new a' });
    expect(await readdir(dir)).toEqual(['a']);
  });
});

describe('replaceEntries', () => {
  it('leaves the folder as it was where the system refuses half-way', async () => {
    await tree(dir, { a: 'old a', b: 'old b' });
    const temporary = stagedPath(dir, 'output', 'tmp');
    await tree(temporary, { a: 'new a', c: 'new c' });
    // A folder of the name that the finished entries would get, not empty: the rename fails.
    const blocked = temporary.replace(/tmp$/, 'new');
    await tree(blocked, { x: '' });
    expect(() => replaceEntries(dir, temporary)).toThrow(/ENOTEMPTY/);
    await rm(blocked, { recursive: true, force: true });
    await rm(temporary, { recursive: true, force: true });
    expect(await contents(dir)).toEqual({ a: 'old a', b: 'old b' });
  });
});

describe('discard', () => {
  it('removes a folder, and is content where there is none', async () => {
    await tree(join(dir, 'f'), { 'a/b': '' });
    await discard(join(dir, 'f'));
    await discard(join(dir, 'f'));
    expect(await readdir(dir)).toEqual([]);
  });
});

describe('a lock', () => {
  it('has one holder at a time', async () => {
    const lock = (await Lock.take(dir, 'run')) as Lock;
    expect(lock).toBeInstanceOf(Lock);
    const other = await Lock.take(dir, 'run');
    expect(other).not.toBeInstanceOf(Lock);
    expect(describeHolder(other as Exclude<typeof other, Lock>)).toBe('this process');
    expect(await Lock.take(dir, 'other')).toBeInstanceOf(Lock);
    await lock.release();
    expect(await holderOf(dir, 'run')).toBeUndefined();
    expect(await Lock.take(dir, 'run')).toBeInstanceOf(Lock);
  });

  it('of a dead process is free, of another machine after a silence', async () => {
    await writeFile(named(dead, 'lock', 'run'), '');
    expect(await holderOf(dir, 'run')).toBeUndefined();
    const far = named(elsewhere, 'lock', 'run');
    await writeFile(far, '');
    expect(describeHolder((await holderOf(dir, 'run'))!)).toBe(`process ${self.pid} on another machine`);
    const silent = new Date(Date.now() - 300_000);
    await utimes(far, silent, silent);
    expect((await stagedIn(dir)).filter(isLeft)).toHaveLength(2);
    expect(await Lock.take(dir, 'run')).toBeInstanceOf(Lock);
  });
});
