/**
 * Loaded before a program by `node --import`, and by NODE_OPTIONS before its children too: opening a file to write fails
 * as on a full disk where its path has the text FULL_BELOW in it.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { FULL_BELOW: full } = process.env;
const { open } = fs.promises;
fs.promises.open = (path, flags, ...rest) => {
  if (!full || !String(path).includes(full) || !/[wa+]/.test(String(flags ?? 'r')))
    return open(path, flags, ...rest);
  const error = new Error(`ENOSPC: no space left on device, open '${path}'`);
  return Promise.reject(Object.assign(error, { code: 'ENOSPC', errno: -28, syscall: 'open', path }));
};
syncBuiltinESMExports();
