/**
 * Loaded before a program by `node --import`: counts the operations that change the disk below KILL_ROOT and ends the
 * process by SIGKILL at the one that KILL_AT says, as "17 before", "17 half" or "17 after". Without KILL_AT it writes the
 * count to the file KILL_COUNT when the process exits. KILL_SIGNAL, with "before", is another signal to send.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';

const {
  KILL_ROOT: root,
  KILL_AT: at = '',
  KILL_COUNT: countFile,
  KILL_SIGNAL: signal = 'SIGKILL',
} = process.env;
const [number, moment] = at.split(' ');
const { openSync, closeSync, writeSync, readdirSync, rmSync, lstatSync, writeFileSync } = fs;
const { open } = fs.promises;

let count = 0;
/** File handles that write below the root. */
const written = new WeakSet();

function die() {
  process.kill(process.pid, signal);
  // Nothing of a killed process runs on.
  while (signal === 'SIGKILL');
}

function isBelow(target) {
  if (typeof target === 'object' && target !== null && written.has(target)) return true;
  if (target instanceof URL) return isBelow(fileURLToPath(target));
  return typeof target === 'string' && `${resolve(target)}${sep}`.startsWith(`${root}${sep}`);
}

function isWriting(flags) {
  return typeof flags === 'string' && /[wa+]/.test(flags);
}

/** Counts an operation; true where it is the one. */
function isIt() {
  count++;
  return count === Number(number);
}

/** Whether `target` counts; by default by its path. */
function wrap(holder, name, half, counts = ([target]) => isBelow(target)) {
  const original = holder[name];
  const around = function (...args) {
    if (!counts(args, this)) return original.apply(this, args);
    const it = isIt();
    if (it && moment === 'before') die();
    if (it && moment === 'half' && half) {
      half(args, this);
      die();
    }
    let result;
    try {
      result = original.apply(this, args);
    } catch (error) {
      // It was done as far as it could be.
      if (it) die();
      throw error;
    }
    if (!it) return result;
    if (typeof result?.then !== 'function') die();
    return result.finally(die);
  };
  holder[name] = around;
}

/** Of a folder that is being removed one file goes. */
function removeOne([path]) {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  const file = readdirSync(path, { recursive: true, withFileTypes: true }).find(
    (entry) => !entry.isDirectory(),
  );
  if (file) rmSync(resolve(file.parentPath ?? file.path, file.name));
}

function writeHalf([path, data, options]) {
  const bytes = Buffer.from(data);
  const flag = options?.flag ?? 'w';
  const file = openSync(path, flag);
  writeSync(file, bytes.subarray(0, bytes.length >> 1));
  closeSync(file);
}

if (isMainThread && root) {
  for (const name of ['mkdirSync', 'renameSync', 'rmdirSync', 'unlinkSync', 'symlinkSync']) wrap(fs, name);
  wrap(fs, 'rmSync', removeOne);
  for (const name of ['mkdir', 'rename', 'rmdir', 'unlink', 'copyFile']) wrap(fs.promises, name);
  wrap(fs.promises, 'symlink', undefined, ([, target]) => isBelow(target));
  wrap(fs.promises, 'rm', removeOne);
  wrap(fs.promises, 'writeFile', writeHalf);
  wrap(fs.promises, 'appendFile', ([path, data]) => writeHalf([path, data, { flag: 'a' }]));

  const handle = await open('/dev/null', 'r');
  wrap(
    Object.getPrototypeOf(handle),
    'write',
    ([bytes, offset = 0, length = bytes.length - offset, position = null], file) =>
      writeSync(file.fd, bytes, offset, length >> 1, position),
    (_, file) => written.has(file),
  );
  await handle.close();
  fs.promises.open = async (path, flags, mode) => {
    if (!isBelow(path) || !isWriting(flags)) return open(path, flags, mode);
    // What is only written into, as for flushing it, changes nothing by being opened.
    const it = flags !== 'r+' && isIt();
    if (it && moment === 'before') die();
    const file = await open(path, flags, mode);
    if (it) die();
    written.add(file);
    return file;
  };
  syncBuiltinESMExports();
  if (countFile) process.on('exit', () => writeFileSync(countFile, String(count)));
}
