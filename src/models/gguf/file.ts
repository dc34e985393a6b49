/** Models in GGUF files: their configuration, their tensors, and the folders they are converted into. */

import { Metadata } from '../../formats/gguf/metadata.js';
import { type Gguf, readGguf, readGgufTensor } from '../../formats/gguf/reader.js';
import { type DescribedGguf, type GgufToHfOptions, writeHfFolder } from '../../formats/gguf/tohf.js';
import { type GgufModelEntry, weightEntries } from '../../formats/gguf/weights.js';
import type { Architecture } from '../architecture.js';
import { architectures, parseModelConfig } from '../index.js';
import { type Described, describe } from '../shape.js';
import { type GgufFile, type GgufForm, readKeys } from './form.js';
import { ggufWeights } from './weights.js';

/** An architecture that llama.cpp has. */
export type WithGguf = Architecture & { gguf: GgufForm };

const all: readonly WithGguf[] = Object.values(architectures).flatMap(({ gguf, ...rest }) =>
  gguf ? [{ ...rest, gguf }] : [],
);

/** llama.cpp's names of what is converted. */
export const ggufNames: readonly string[] = [...new Set(all.map(({ gguf }) => gguf.name))];

/**
 * The architecture that llama.cpp calls `name`, with experts or without, the same where it has one of both only; undefined
 * where that is none of those here. Where it has one name for several, it is the first (Llama, not Mistral).
 */
export function architectureNamed(name: string, hasExperts = false): WithGguf | undefined {
  const named = all.filter(({ gguf }) => gguf.name === name);
  return named.find(({ gguf }) => (gguf.hasExperts ?? false) === hasExperts) ?? named[0];
}

/** The model in a GGUF file. */
export interface GgufDescription extends DescribedGguf {
  form: GgufForm;
  described: Described;
}

/**
 * What the model in a GGUF file is, by its header and what it has of rotary embeddings.
 * @throws UserError when its architecture, or something about it (experts, a rope scaling), is not converted, or a key is
 * missing.
 */
export async function describeGguf(gguf: Gguf): Promise<GgufDescription> {
  const meta = new Metadata(gguf);
  const kind = meta.string('general.type', 'model');
  if (kind !== 'model') meta.fail(`general.type is "${kind}": this is no model`);
  const name = meta.string('general.architecture');
  const experts = meta.count(`${name}.expert_count`, 0);
  const architecture =
    architectureNamed(name, experts > 0) ??
    meta.fail(`architecture "${name}" is not converted, expected ${ggufNames.join(', ')}`);
  if (experts > 0 && !architecture.gguf.hasExperts)
    meta.fail(`a mixture of experts of "${name}" is not converted`);
  const file: GgufFile = {
    name,
    meta,
    shapeOf: (tensor) => gguf.tensors.get(tensor)?.shape,
    values: (tensor) => readGgufTensor(gguf, gguf.tensors.get(tensor)!),
  };
  refuseMoreLayers(gguf, meta, `${name}.block_count`);
  const { config, described } = await configOfFile(gguf.path, file, architecture);
  return {
    gguf,
    form: architecture.gguf,
    config,
    described,
    weights: ggufWeights(described, architecture.gguf),
  };
}

/** Throws UserError where a file says that it has more layers than it has tensors of. */
function refuseMoreLayers({ tensors }: Gguf, meta: Metadata, key: string): void {
  const found = new Set([...tensors.keys()].map((name) => /^blk\.(\d+)\./.exec(name)?.[1]));
  found.delete(undefined);
  const layers = meta.count(key);
  if (layers > found.size)
    meta.fail(`${key} is ${layers}, and the tensors are those of ${found.size} layers`);
}

/** The config.json that a file's metadata amounts to, and what it describes. */
export async function configOfFile(
  place: string,
  file: GgufFile,
  { modelType, gguf: form }: WithGguf,
): Promise<Pick<GgufDescription, 'config' | 'described'>> {
  const { meta } = file;
  const id = (token: string): number | null => {
    const at = `tokenizer.ggml.${token}_token_id`;
    return meta.has(at) ? meta.count(at) : null;
  };
  const read = readKeys(file, form.keys);
  const config = {
    architectures: [form.className],
    model_type: modelType,
    ...read,
    ...(await form.rest(file, read)),
    vocab_size: vocabularySize(file),
    tie_word_embeddings: file.shapeOf('output.weight') === undefined,
    bos_token_id: id('bos'),
    eos_token_id: id('eos'),
    pad_token_id: id('padding'),
  };
  return { config, described: describe(parseModelConfig(place, config)) };
}

/** The rows of the embedding, which may be padded beyond the tokens. */
function vocabularySize({ meta, shapeOf }: GgufFile): number {
  const shape = shapeOf('token_embd.weight');
  return shape?.length === 2 ? shape[0] : meta.fail('there is no tensor "token_embd.weight"');
}

/**
 * Converts a model that llama.cpp has and this program too into a Hugging Face folder: config.json,
 * generation_config.json, model.safetensors (in shards above maxShardBytes), tokenizer.json and
 * tokenizer_config.json. One tensor is held at a time; the folder appears whole or not at all.
 * @throws UserError when the file is broken, holds something that is not converted, or the folder exists.
 */
export async function ggufToHf(
  ggufPath: string,
  outFolder: string,
  options: GgufToHfOptions = {},
): Promise<void> {
  await writeHfFolder(outFolder, await describeGguf(await readGguf(ggufPath)), options);
}

/**
 * The tensors of a model in float32, by Hugging Face's names, each read when its data is asked for.
 * @throws UserError when the file is broken or holds something that is not converted.
 */
export async function ggufEntries(ggufPath: string): Promise<GgufModelEntry[]> {
  const { gguf, config, weights } = await describeGguf(await readGguf(ggufPath));
  return weightEntries(gguf, config.model_type, weights, 'float32');
}
