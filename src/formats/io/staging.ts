/**
 * What is under way on disk: temporaries and locks whose names say which process they belong to, so that the next
 * command finds what a dead one left, and finishes it, takes it back or removes it.
 *
 * Names are `.WHAT.lowrank-MARK-TOKEN.STAGE`. Stages:
 *
 * - tmp: not finished, or no longer wanted. Goes.
 * - old: entries moved aside in a folder that is being replaced. They come back, unless there is a `new` of their token.
 * - new: the finished entries that replace them. They are moved up.
 * - lock: see lock.ts.
 */
import { randomBytes } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { lifeOf, MARK, markOf, type Owner, ownerOf, self } from './owner.js';

export type Stage = 'tmp' | 'old' | 'new' | 'lock';

/** Something on disk that a process has under way. */
export interface Staged {
  path: string;
  /** What it is for: the beginning of an output's name, or a lock's whole name. */
  what: string;
  owner: Owner;
  token: string;
  stage: Stage;
}

const NAME = new RegExp(`^\\.(.*)\\.lowrank-${MARK}-([0-9a-f]{12})\\.(tmp|old|new|lock)$`, 's');

/** Characters of an output's name in a temporary's: for people, and no system takes more than 255 bytes. */
const SHOWN_CHARACTERS = 30;

/** What may be of a living process on another machine is left alone until nothing in it changed for so long. */
const UNKNOWN_IDLE_MS = 3600_000;
/** A lock is touched so often that a much shorter silence tells. */
const UNKNOWN_LOCK_IDLE_MS = 120_000;

/** Entries of a fresh disk or a file manager, which are no content. */
const NO_CONTENT = ['lost+found', '.DS_Store'];

/** What this process has under way. */
const underWay = new Set<string>();

export function isAnythingUnderWay(): boolean {
  return underWay.size > 0;
}

/** Removes at once what this process has under way. Runs by itself when the process exits, unless a signal ends it. */
export function abandon(): void {
  for (const path of underWay) {
    try {
      rmSync(path, { recursive: true, force: true, maxRetries: 3 });
    } catch {
      // The next command finds it.
    }
  }
  underWay.clear();
}

/** Notes that this process has something under way at `path`. */
export function begun(path: string): void {
  if (underWay.size === 0 && !process.listeners('exit').includes(abandon)) process.on('exit', abandon);
  underWay.add(path);
}

/** Notes that there is nothing under way at `path` any more. */
export function ended(path: string): void {
  underWay.delete(path);
}

/** A name in `folder` for what this process has under way. */
export function stagedPath(folder: string, what: string, stage: Stage): string {
  const token = randomBytes(6).toString('hex');
  return join(folder, `.${what}.lowrank-${markOf(self)}-${token}.${stage}`);
}

/** A temporary beside `path`, under way from here on. */
export function temporaryFor(path: string): string {
  const temporary = stagedPath(dirname(path), shortened(basename(path)), 'tmp');
  begun(temporary);
  return temporary;
}

function shortened(name: string): string {
  return [...name].slice(0, SHOWN_CHARACTERS).join('');
}

function parsed(folder: string, name: string): Staged | undefined {
  const match = NAME.exec(name);
  if (!match) return undefined;
  const [, what, ...rest] = match;
  const [token, stage] = rest.slice(5) as [string, Stage];
  return { path: join(folder, name), what, owner: ownerOf(rest), token, stage };
}

/** The same with another stage. */
function sibling(path: string, stage: Stage): string {
  return path.replace(/\.[a-z]+$/, `.${stage}`);
}

/** What is under way in a folder, of whichever process; nothing where it cannot be read. */
export async function stagedIn(folder: string): Promise<Staged[]> {
  const names = await readdir(folder).catch(() => []);
  return names.flatMap((name) => parsed(folder, name) ?? []);
}

/** Names of what a folder holds: neither what is under way nor what every disk has. */
export function contentOf(names: readonly string[]): string[] {
  return names.filter((name) => !NO_CONTENT.includes(name) && !NAME.test(name));
}

/** Whether the process that something belongs to will not come back to it. */
export function isLeft({ path, owner, stage }: Staged): boolean {
  const life = lifeOf(owner);
  if (life !== 'unknown') return life === 'dead';
  const limit = stage === 'lock' ? UNKNOWN_LOCK_IDLE_MS : UNKNOWN_IDLE_MS;
  return Math.abs(Date.now() - lastChange(path)) > limit;
}

/** When anything in a file or folder last changed, in milliseconds since 1970. */
function lastChange(path: string): number {
  try {
    const info = lstatSync(path);
    const inside = info.isDirectory() ? readdirSync(path).map((name) => lastChange(join(path, name))) : [];
    return Math.max(info.mtimeMs, ...inside);
  } catch {
    return 0;
  }
}

/** Removes a file or folder so that a kill in between leaves a temporary, not a half of it under its name. */
export async function discard(path: string): Promise<void> {
  const temporary = temporaryFor(path);
  try {
    renameSync(path, temporary);
  } catch (error) {
    ended(temporary);
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  await rm(temporary, { recursive: true, force: true });
  ended(temporary);
}

/**
 * Finishes, takes back or removes what dead processes left in a folder: the outputs that it holds, and itself as an
 * output. What the system does not permit stays as it is.
 */
export async function sweep(folder: string): Promise<void> {
  const left = (await stagedIn(folder)).filter(isLeft);
  // A `new` decides what becomes of the `old` and `tmp` of its token, so it comes first.
  const order: Stage[] = ['new', 'old', 'tmp', 'lock'];
  for (const staged of left.sort((a, b) => order.indexOf(a.stage) - order.indexOf(b.stage))) {
    try {
      if (staged.stage === 'new') finishReplacing(staged.path);
      else if (staged.stage === 'old') {
        if (!existsNow(sibling(staged.path, 'new'))) putBack(staged.path);
      } else await rm(staged.path, { recursive: true, force: true });
    } catch {
      // Another process was quicker, or the disk is not to be written.
    }
  }
}

/**
 * Makes the entries of `temporary`, a finished temporary inside `folder`, those of the folder, in the place of all that
 * it holds. Throws where the system refuses, and then the folder is as it was. Synchronous, so that no signal finds it
 * in between; a kill at any point leaves what sweep finishes or takes back.
 */
export function replaceEntries(folder: string, temporary: string): void {
  const [fresh, old] = [sibling(temporary, 'new'), sibling(temporary, 'old')];
  const before = contentOf(readdirSync(folder));
  let isAside = false;
  try {
    if (before.length > 0) mkdirSync(old);
    for (const name of before) renameSync(join(folder, name), join(old, name));
    renameSync(temporary, fresh);
    isAside = true;
    moveUp(fresh);
  } catch (error) {
    if (isAside) {
      for (const name of contentOf(readdirSync(folder))) renameSync(join(folder, name), join(fresh, name));
      renameSync(fresh, temporary);
    }
    if (existsNow(old)) putBack(old);
    throw error;
  }
  finishReplacing(fresh);
}

/** What can be loaded is whole: the files that make a folder a model or an adapter come last. */
function moveUp(fresh: string): void {
  const isConfig = (name: string) => Number(name.endsWith('config.json'));
  for (const name of readdirSync(fresh).sort((a, b) => isConfig(a) - isConfig(b))) {
    const [from, to] = [join(fresh, name), join(dirname(fresh), name)];
    try {
      renameSync(from, to);
    } catch (error) {
      // Only a folder that somebody made since then is in the way.
      if (
        !['ENOTEMPTY', 'EEXIST', 'EISDIR', 'ENOTDIR'].includes(String((error as NodeJS.ErrnoException).code))
      )
        throw error;
      rmSync(to, { recursive: true, force: true });
      renameSync(from, to);
    }
  }
}

/** Moves up what is not yet, lets the old entries go, and last of all the sign that this is under way. */
function finishReplacing(fresh: string): void {
  moveUp(fresh);
  const [old, temporary] = [sibling(fresh, 'old'), sibling(fresh, 'tmp')];
  if (existsNow(old)) renameSync(old, temporary);
  rmdirSync(fresh);
  rmSync(temporary, { recursive: true, force: true });
}

/** Puts back what was moved aside, where nothing has taken its place. */
function putBack(old: string): void {
  for (const name of readdirSync(old)) {
    const to = join(dirname(old), name);
    if (!existsNow(to)) renameSync(join(old, name), to);
  }
  rmSync(old, { recursive: true, force: true });
}

function existsNow(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
