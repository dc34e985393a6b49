/** Command lines that a command ends with: what to type next, as a shell takes it. */
import { isAbsolute, relative, resolve } from 'node:path';
import type { Opening } from '../api/opening.js';
import { shellWord } from './flags.js';
import { commandLine } from './invocation.js';

/** A text that any model goes on from. */
const ANY: Opening = { prompt: 'Once upon a time' };

export interface Use {
  model?: string;
  adapter?: string;
  quantize?: string;
}

/** How to try a model or an adapter; an adapter without a model names it. */
export function generateHint(use: Use, opening: Opening = ANY): string {
  const flags = { ...use, ...opening };
  return commandLine(['generate', ...flagsText(flags)].join(' '));
}

/** How to try a classifier. */
export function predictHint(use: Use): string {
  return commandLine(['predict', ...flagsText({ ...use, text: '...' })].join(' '));
}

/** How to merge an adapter, into a folder beside it. */
export function mergeHint(use: Use & { adapter: string }): string {
  return commandLine(['merge', ...flagsText({ ...use, output: beside(use.adapter, '-merged') })].join(' '));
}

function flagsText(flags: object): string[] {
  return Object.entries(flags).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name} ${shellWord(String(value))}`],
  );
}

/** A path beside a folder, of its name and an ending: also for ".", "..", and "out/". */
export function beside(folder: string, ending: string): string {
  const path = resolve(folder) + ending;
  return isAbsolute(folder) ? path : relative('.', path);
}
