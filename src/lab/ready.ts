/** The grids that come along. */
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readConfigText } from '../api/configFile.js';
import { nearest, UserError } from '../base/errors.js';
import { exists } from '../formats/io/node.js';
import { type Grid, parseGrid } from './grid.js';
import { RESULTS_FILE } from './store.js';

const folder = fileURLToPath(new URL('../../assets/grids', import.meta.url));
const ENDING = '.yaml';

/** Those that come along, by name. */
export async function readyGrids(): Promise<Grid[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(ENDING)).sort();
  return Promise.all(names.map(async (name) => parseGrid(name, await readFile(join(folder, name), 'utf8'))));
}

/** A grid by its file, or by the name of one that comes along. Throws UserError where there is neither, or it is none. */
export async function openGrid(path: string): Promise<Grid> {
  if (await exists(join(path, RESULTS_FILE)))
    throw new UserError(
      `${path} is the folder of a lab, not a grid: name its grid and --output ${path} to go on, or --output with --export or --picture to see what it found`,
    );
  if (await exists(path)) return parseGrid(path, await readConfigText(path));
  const ready = (await readdir(folder)).map((name) => basename(name, ENDING));
  if (ready.includes(path)) return parseGrid(path, await readConfigText(join(folder, `${path}${ENDING}`)));
  const guess = nearest(path, ready);
  const hint =
    guess === undefined
      ? `; those that come along: ${ready.sort().join(', ')}`
      : `, did you mean "${guess}"?`;
  throw new UserError(`there is no grid ${path}${hint}`);
}
