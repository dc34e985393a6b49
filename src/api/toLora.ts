/** An adapter of any method that merges, written as a LoRA. */
import { UserError } from '../base/errors.js';
import type { WorkOptions } from '../base/work.js';
import { readChatTemplates, writeChatTemplates } from '../formats/chatTemplates.js';
import { writeFolderAtomic } from '../formats/io/write.js';
import { readRecipe, writeRecipe } from '../formats/quant/recipe.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { fromFiles, writeAdapterFolder } from '../methods/files.js';
import { type ToLoraOptions, toLora } from '../methods/toLora.js';
import type { TruncatedLayer } from '../methods/truncate.js';
import { baseNamedBy, readAdapterFor } from './adapterFile.js';
import type { LocateOptions } from './locate.js';
import { openBase, resolveBase } from './quantizedBase.js';
import { refuseInput } from './replace.js';

/** What became of an adapter that was made a LoRA. */
export interface AsLora {
  /** The largest rank of a layer. */
  r: number;
  /** The share of the squared Frobenius norm of all changes that the LoRA holds. */
  kept: number;
  layers: TruncatedLayer[];
}

export interface AsLoraOptions extends LocateOptions, WorkOptions, ToLoraOptions {
  /** Its base: a folder, a GGUF file or a hub id. Default: the one that it names. */
  base?: string;
  overwrite?: boolean;
}

/**
 * Writes what the adapter in `at` changes as a LoRA into `output`, as PEFT's folder; `place` names it. The base is as it lay when the
 * adapter was trained, quantized where it says so. Throws UserError where it cannot become one, or is for another base.
 */
export async function writeAsLora(
  place: string,
  at: string,
  output: string,
  { base: given, overwrite, onProgress, signal, r, energy, ...find }: AsLoraOptions,
): Promise<AsLora> {
  const named = given ?? (await baseNamedBy(at));
  if (named === null) {
    throw new UserError(
      `${place}: which model is this adapter for? Name it by the option "base", a folder or GGUF file`,
    );
  }
  const recipe = await readRecipe(at);
  const resolved = await resolveBase(named, { ...find, quantize: recipe?.format }, recipe?.loftq);
  const base = await openBase(resolved, find);
  await refuseInput(output, base.folder);
  const adapter = await readAdapterFor(at, base, find);
  const runtime = new NodeRuntime();
  try {
    const layers: TruncatedLayer[] = [];
    const work = toLora(place, adapter, base, runtime, { r, energy }, signal);
    let next = await work.next();
    for (; !next.done; next = await work.next()) {
      const { done, of, ...layer } = next.value;
      layers.push(layer);
      onProgress?.({ what: 'converting', done, total: of, unit: 'layers' });
    }
    const made = { ...fromFiles(output, next.value, base), tokenizer: adapter.tokenizer };
    const templates = await readChatTemplates(at);
    await writeFolderAtomic(
      output,
      async (temporary) => {
        await writeAdapterFolder(temporary, made, named);
        if (recipe) await writeRecipe(temporary, recipe);
        if (templates) await writeChatTemplates(temporary, templates);
      },
      { overwrite },
    );
    return { r: Math.max(...layers.map((layer) => layer.r)), kept: keptOf(layers), layers };
  } finally {
    await runtime.close();
  }
}

function keptOf(layers: readonly TruncatedLayer[]): number {
  const [total, held] = layers.reduce(
    ([all, kept], { norm, captured }) => [all + norm ** 2, kept + norm ** 2 * captured],
    [0, 0],
  );
  return total === 0 ? 1 : held / total;
}
