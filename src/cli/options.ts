/** Options that several commands share. */
import * as z from 'zod';
import { baseOfAdapter } from '../api/inspect.js';
import { UsageError } from './command.js';
import { locating } from './download.js';
import type { Terminal } from './terminal.js';

const text = z.string().min(1);

export const modelOption = text
  .optional()
  .describe('model folder, .gguf file, hub id or "demo" (default: the base that the adapter names)');
export const adapterOption = text.describe('PEFT adapter folder, or hub id');
export const overwriteOption = z.boolean().default(false).describe('replace what is there');
export const dtypeOption = z
  .enum(['float32', 'float16', 'bfloat16'])
  .optional()
  .describe('element type of the weights written');
export const outputOption = text.describe('folder to write');
export const jsonOption = z
  .boolean()
  .default(false)
  .describe('print one JSON object a line on stdout, text on stderr');

/** The model to load: the one named, or the adapter's base. Throws UsageError where there is neither. */
export async function modelOrBase(
  model: string | undefined,
  adapter: string | undefined,
  terminal: Terminal,
): Promise<string> {
  if (model !== undefined) return model;
  if (adapter === undefined) throw new UsageError('--model is missing (see --help)');
  return baseOfAdapter(adapter, locating(terminal));
}
