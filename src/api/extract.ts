/** Adapters made out of other weights: extracted from two models, or lowered in rank. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { writeFolderAtomic } from '../formats/io/write.js';
import { type AdapterFiles, readAdapter, writeAdapter } from '../formats/peft.js';
import type { Task } from '../formats/task.js';
import { readTask, writeTask } from '../formats/taskFile.js';
import { extractLora, extractShape } from '../methods/extract.js';
import { reduceRanks } from '../methods/reduce.js';
import { type TruncatedLayer, truncationShape } from '../methods/truncate.js';
import { withinTargets } from '../methods/withinTargets.js';
import { openModel } from '../models/base.js';
import { checkArguments } from './arguments.js';
import { baseName, type LocateOptions, locate, resolveModelFolder } from './locate.js';
import { claimOutput, refuseInput } from './replace.js';

/** A layer that is done, and how many of how many that makes. */
export type TruncationEvent = TruncatedLayer & { done: number; of: number };

interface OutputOptions extends LocateOptions {
  /** Replace an adapter that is at the output. */
  overwrite?: boolean;
}

export type ExtractInput = z.input<z.ZodObject<typeof extractShape>> & OutputOptions;
export type ResizeInput = z.input<z.ZodObject<typeof truncationShape>> & OutputOptions;

/**
 * Writes the difference between `tuned` and `base` (folders, GGUF files or hub ids) as a LoRA adapter for the base into
 * `output`, telling of each layer. Returns the tensors that differ and that the adapter has nothing of. Throws
 * UserError where the models are not of one shape, are equal, or the output may not be written.
 */
export async function* extract(
  base: string,
  tuned: string,
  output: string,
  { onNotice, onDownload, overwrite, ...given }: ExtractInput = {},
): AsyncGenerator<TruncationEvent, { left: string[] }, void> {
  checkArguments('extract', [base, tuned, output]);
  const options = parse('extraction', extractShape, given);
  await claimOutput(output, 'peft', { overwrite, inputs: [base, tuned] });
  const find = { onNotice, onDownload };
  const [from, to] = [await resolveModelFolder(base, find), await resolveModelFolder(tuned, find)];
  for (const input of [from, to]) await refuseInput(output, input);
  const { adapter, left } = yield* extractLora(
    await openModel(from, find),
    await openModel(to, find),
    options,
  );
  await write(output, adapter, await baseName(base), overwrite);
  return { left };
}

/**
 * Writes a LoRA adapter (a PEFT folder, or a hub id) with lower ranks into `output`, telling of each layer. Throws
 * UserError where it is not a plain LoRA, or the output may not be written.
 */
export async function* resize(
  adapter: string,
  output: string,
  { onNotice, onDownload, overwrite, ...given }: ResizeInput = {},
): AsyncGenerator<TruncationEvent, void, void> {
  checkArguments('resize', [adapter, output]);
  const options = parse('resizing', truncationShape, given);
  await claimOutput(output, 'peft', { overwrite, inputs: [adapter] });
  const at = await locate(adapter, { kind: 'adapter', onNotice, onDownload });
  await refuseInput(output, at);
  const read = withinTargets(adapter, await readAdapter(at), onNotice);
  const reduced = yield* reduceRanks(adapter, read, options);
  const { base_model_name_or_path: base } = read.config;
  await write(output, reduced, base, overwrite, await readTask(at));
}

function write(
  output: string,
  { config, tensors }: AdapterFiles,
  base: string | null,
  overwrite = false,
  task?: Task,
) {
  const named = { ...config, base_model_name_or_path: base };
  const fill = async (temporary: string) => {
    await writeAdapter(temporary, named, tensors);
    if (task) await writeTask(temporary, task);
  };
  return writeFolderAtomic(output, fill, { overwrite });
}

function parse<S extends z.ZodRawShape>(what: string, shape: S, given: object): z.output<z.ZodObject<S>> {
  const result = z.strictObject(shape).safeParse(given);
  if (result.success) return result.data as z.output<z.ZodObject<S>>;
  const [{ path, message }] = result.error.issues;
  throw new UserError(`${what} options: ${path.join('.')}: ${message}`);
}
