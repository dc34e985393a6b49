/** How a quantized copy of a model is made. */
import { UserError } from '../base/errors.js';
import { Turns, type WorkOptions } from '../base/work.js';
import { writeCheckpoint } from '../formats/checkpoint.js';
import { copyCompanions } from '../formats/companions.js';
import type { GgufModelEntry } from '../formats/gguf/weights.js';
import { writeFolderAtomic } from '../formats/io/write.js';
import { type MatrixShape, pack, packedBytes, quantCodecs } from '../formats/quant/index.js';
import { type Alternation, quantizeAlternately } from '../formats/quant/loftq.js';
import { type BaseRecipe, describeRecipe, writeRecipe } from '../formats/quant/recipe.js';
import { readTensorBytes, type TensorEntry } from '../formats/safetensors.js';
import type { BaseModel } from './base.js';
import { isInnerLinear, type ModelConfig, type Site } from './model.js';
import { checkRank } from './rankLimit.js';
import { describe } from './shape.js';

/** Tells of matrices; a signal ends it. */
export type QuantizeOptions = WorkOptions;

/**
 * Entries with every linear layer's matrix quantized, as bitsandbytes and transformers choose them: not embeddings, not
 * the LM head, which stay as they are stored. Blocks of llama.cpp that have the format's layout are taken as they are.
 * `entries` are float32. Throws UserError where the recipe is for matrices that are not there.
 */
export function quantizedEntries(
  entries: readonly (FloatEntry & Partial<GgufModelEntry>)[],
  config: ModelConfig,
  recipe: BaseRecipe,
  { onProgress, signal }: QuantizeOptions = {},
): TensorEntry[] {
  const { format } = recipe;
  const codec = quantCodecs[format];
  const chosen = quantizedSites(describe(config).sites);
  const alternations = alternationsOf(recipe, chosen);
  const turns = new Turns(signal);
  const [what, total] = [`quantizing to ${describeRecipe(recipe)}`, chosen.size];
  let done = 0;
  return entries.map((entry) => {
    const site = chosen.get(entry.name);
    if (!site) return entry.stored ?? entry;
    const shape: MatrixShape = [site.out, site.in];
    const alternation = alternations.get(site.name);
    const quantized = async () => {
      const { blocks } = entry;
      if (!alternation && blocks && blocks.type === codec.gguf?.type) {
        return codec.gguf.convert(await blocks.read());
      }
      const values = await floatsOf(entry);
      const broken = values.findIndex((v) => !Number.isFinite(v));
      if (broken >= 0) throw new UserError(`${entry.name} holds ${values[broken]}: it cannot be quantized`);
      return alternation
        ? quantizeAlternately(values, shape, format, alternation)
        : codec.quantize(values, shape);
    };
    const data = async () => {
      await turns.take();
      const bytes = pack(format, await quantized(), shape);
      done++;
      onProgress?.({ what, done, total, unit: 'matrices' });
      return bytes;
    };
    return { name: `${entry.name}.${format}`, dtype: 'U8', shape: [packedBytes(format, shape)], data };
  });
}

/** The sites whose matrices are quantized, by the names of these. */
function quantizedSites(sites: readonly Site[]): Map<string, Site> {
  const layers = sites.filter(isInnerLinear);
  return new Map(layers.map((s) => [`${s.name}.weight`, s]));
}

function alternationsOf({ loftq }: BaseRecipe, chosen: ReadonlyMap<string, Site>): Map<string, Alternation> {
  const { iterations, ranks } = loftq ?? { iterations: 1, ranks: {} };
  return new Map(
    Object.entries(ranks).map(([name, r]) => {
      const site = chosen.get(`${name}.weight`);
      if (!site) throw new UserError(`LoftQ is for layers that are quantized, and ${name} is none`);
      checkRank('LoftQ: rank', r, site);
      return [name, { r, iterations }];
    }),
  );
}

/** An entry's values; it is float32. */
export async function floatsOf(entry: TensorEntry): Promise<Float32Array> {
  const bytes = await entry.data();
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** A tensor in float32, and how its file has it. */
export interface FloatEntry extends TensorEntry {
  stored?: TensorEntry;
}

/** A model's tensors, each read when its data is asked for: matrices as the network has them, [out, in]. */
export function floatEntries({ checkpoint }: BaseModel): FloatEntry[] {
  return [...checkpoint.tensors.values()].map((info) => {
    const { name, shape, dtype } = info;
    const data = async () => new Uint8Array((await checkpoint.read(name)).buffer);
    const stored = { name, dtype, shape, data: () => readTensorBytes(info) };
    return { name, dtype: 'F32', shape, data, stored };
  });
}

/**
 * Writes a copy of a model folder with quantized matrices and the rest as it is stored, whole or not at all. It opens as
 * any model does. Throws UserError where the folder exists.
 */
export async function quantizeFolder(
  model: BaseModel,
  folder: string,
  recipe: BaseRecipe,
  options: QuantizeOptions = {},
): Promise<void> {
  await writeFolderAtomic(folder, async (temporary) => {
    await writeCheckpoint(temporary, quantizedEntries(floatEntries(model), model.config, recipe, options));
    await copyCompanions(model.folder, temporary);
    await noteRecipe(temporary, recipe);
  });
}

/** Plain formats are seen in the tensors' names. */
export async function noteRecipe(folder: string, recipe: BaseRecipe): Promise<void> {
  if (recipe.loftq) await writeRecipe(folder, recipe);
}
