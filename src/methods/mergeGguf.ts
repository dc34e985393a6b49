/** A model with an adapter merged in, as a GGUF file. */
import type { WorkOptions } from '../base/work.js';
import { type GgufModel, writeModelGguf } from '../formats/gguf/model.js';
import type { GgufDType } from '../formats/gguf/types.js';
import type { Runtime } from '../graph/runtime/session.js';
import type { BaseModel } from '../models/base.js';
import { ggufModelOf } from '../models/gguf/write.js';
import type { Adapter } from './adapter.js';
import { mergedTensors, type WithTokenizer } from './merge.js';

/**
 * Writes a GGUF file that llama.cpp loads: the model with an adapter merged in, or alone, its tokenizer and its chat
 * template; default: float16. Replaces a file of that name. Throws UserError where the method cannot merge, or llama.cpp
 * has not the like of the model or its tokenizer.
 */
export async function writeMergedGguf(
  path: string,
  runtime: Runtime,
  model: BaseModel,
  adapter: Adapter | undefined,
  { dtype = 'float16', tokenizer, ...work }: { dtype?: GgufDType } & WithTokenizer & WorkOptions = {},
): Promise<void> {
  const { config, folder } = model;
  const { tensors, tied, vocabSize } = mergedTensors(runtime, model, adapter);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const { head, embedding } = model.network.names;
  const given: GgufModel = {
    folder,
    tokenizerFolder: adapter?.tokenizer?.folder,
    templates: tokenizer?.chatTemplates,
    ...(await ggufModelOf(folder, { ...config, vocabSize, tieWordEmbeddings: tied })),
    // A tied head that llama.cpp wants once more is the embedding.
    read: (name) =>
      (byName.get(name) ??
        (name === `${head}.weight` ? byName.get(`${embedding}.weight`) : undefined))!.values(),
  };
  await writeModelGguf(path, given, dtype, work);
}
