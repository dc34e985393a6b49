/** Options that several commands share. */
import * as z from 'zod';
import { baseOfAdapter } from '../api/inspect.js';
import { ggufDTypes } from '../formats/gguf/types.js';
import { UsageError } from './command.js';
import { locating } from './download.js';
import type { Terminal } from './terminal.js';

const text = z.string().min(1);

export const modelOption = text
  .meta({ valueName: 'model' })
  .optional()
  .describe('model folder, .gguf file, hub id or "demo" (default: the base that the adapter names)');
export const adaptersOption = z
  .array(text)
  .meta({ valueName: 'adapter' })
  .describe('adapter: PEFT folder, .gguf file, mlx-lm folder or hub id; several add up');
export const overwriteOption = z.boolean().default(false).describe('replace what is there');
export const dtypeOption = z
  .enum(ggufDTypes)
  .optional()
  .describe('element type of the weights written; q8_0 and q4_0 in GGUF files only');
export const maxShardSizeOption = text
  .meta({ valueName: 'size' })
  .optional()
  .describe('largest file of weights of a model, as 2GB or 500MB (default: 5GB)');
export const outputOption = text.meta({ valueName: 'folder' }).describe('folder to write');
export const jsonOption = z
  .boolean()
  .default(false)
  .describe('print one JSON object a line on stdout, text on stderr');

/** The model to load: the one named, or the adapters' base. Throws UsageError where there is neither, or they differ. */
export async function modelOrBase(
  model: string | undefined,
  adapters: readonly string[],
  terminal: Terminal,
  /** How the model is named. */
  argument = '--model',
): Promise<string> {
  if (model !== undefined) return model;
  if (adapters.length === 0) throw new UsageError(`${argument} is missing (see --help)`);
  const bases: string[] = [];
  for (const adapter of adapters) bases.push(await baseOfAdapter(adapter, locating(terminal)));
  const other = bases.findIndex((base) => base !== bases[0]);
  if (other < 0) return bases[0];
  throw new UsageError(
    `${adapters[0]} names ${bases[0]} as its base and ${adapters[other]} names ${bases[other]}: give ${argument}`,
  );
}

const UNITS: Record<string, number> = {
  '': 1,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  KI: 2 ** 10,
  MI: 2 ** 20,
  GI: 2 ** 30,
};

/** Bytes of "2GB", "500MB", "1GiB" or "1000000", as Hugging Face counts them. */
export function bytesOf(size: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMG]I?)?B?$/i.exec(size);
  const bytes = match === null ? 0 : Math.floor(Number(match[1]) * UNITS[(match[2] ?? '').toUpperCase()]);
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new UsageError(`--max-shard-size: expected a size such as 2GB or 500MB, found "${size}"`);
}
