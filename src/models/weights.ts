/** A checkpoint beside its config.json: tensors by the names that the model has for them, and what does not fit said. */
import { UserError } from '../base/errors.js';
import { transposedRows } from '../base/tensor.js';
import { type Checkpoint, checkpointOf } from '../formats/checkpoint.js';
import { quantFormats } from '../formats/quant/index.js';
import { equalTensors, type TensorInfo } from '../formats/safetensors.js';
import type { Network, NetworkNames } from './architecture.js';
import type { ModelConfig } from './model.js';
import type { Described } from './shape.js';

type Parameters = ReadonlyMap<string, readonly number[]>;

/** Throws UserError where config.json asks for more layers than the checkpoint has anything of. */
export function refuseMoreLayers(
  place: string,
  { config: { layers }, names }: Network,
  { folder, tensors }: Checkpoint,
): void {
  const ways = [names.layers, names.layers.slice(names.prefix.length)];
  const found = new Set(
    [...tensors.keys()].map((name) => {
      const before = ways.find((way) => name.startsWith(way));
      return before && /^\d+(?=\.)/.exec(name.slice(before.length))?.[0];
    }),
  );
  found.delete(undefined);
  if (layers <= found.size) return;
  throw new UserError(
    `${place}: key "num_hidden_layers" is ${layers}, and the weights in ${folder} are those of ${found.size} layers`,
  );
}

/** What TensorFlow called gains and biases of LayerNorm, as old checkpoints of BERT have it; transformers renames them, too. */
const OLD_NORMS: readonly (readonly [RegExp, string])[] = [
  [/(?<=LayerNorm\.)gamma$/, 'weight'],
  [/(?<=LayerNorm\.)beta$/, 'bias'],
];

/**
 * A checkpoint by the names of the model's parameters: one without a head may lack the prefix of its tensors, and an old one
 * has other names of norms.
 */
export function withPrefix(checkpoint: Checkpoint, { network, parameters }: Described): Checkpoint {
  const { tensors } = checkpoint;
  const { prefix } = network.names;
  const known = (name: string) =>
    parameters.has(name) ||
    quantFormats.some((f) => name.endsWith(`.${f}`) && parameters.has(name.slice(0, -f.length - 1)));
  const renamed = [...tensors.values()].map((info): TensorInfo => {
    if (known(info.name)) return info;
    const own = OLD_NORMS.reduce((name, [old, now]) => name.replace(old, now), info.name);
    const name = [own, `${prefix}${own}`].find((found) => known(found) && !tensors.has(found));
    return name === undefined ? info : { ...info, name };
  });
  return checkpointOf(checkpoint.folder, new Map(renamed.map((info) => [info.name, info])));
}

/**
 * What the head of a model with `tieWordEmbeddings` is, as transformers decides it: the embedding's matrix, where the
 * checkpoint has one of the two or both alike; its own, where it has two that differ.
 */
export async function settleHead(
  { config, names }: Network,
  checkpoint: Checkpoint,
): Promise<{ config: ModelConfig; checkpoint: Checkpoint; notice?: string }> {
  const [headName, embeddingName] = [`${names.head}.weight`, `${names.embedding}.weight`];
  const head = checkpoint.tensors.get(headName);
  if (names.head === undefined || !config.tieWordEmbeddings || !head) return { config, checkpoint };
  const embedding = checkpoint.tensors.get(embeddingName);
  if (embedding && !(await equalTensors(embedding, head))) {
    const notice =
      `${checkpoint.folder}: config.json ties the LM head to the embeddings, and the weights have another matrix for ` +
      'it: that one is used, as transformers does';
    return { config: { ...config, tieWordEmbeddings: false }, checkpoint, notice };
  }
  const tensors = new Map(checkpoint.tensors);
  tensors.delete(headName);
  if (!embedding) tensors.set(embeddingName, { ...head, name: embeddingName });
  return { config, checkpoint: checkpointOf(checkpoint.folder, tensors) };
}

/** A configuration that tells of a pooler where the checkpoint has one: models with a head of their own may have none. */
export function settlePooler<C extends ModelConfig>(
  config: C,
  { names }: Pick<Network, 'names'>,
  { tensors }: Checkpoint,
): C {
  // A task's head needs its own, new or not.
  const hasHead = config.task !== undefined && config.task.kind !== 'embedding';
  if (config.pooler !== true || hasHead || tensors.has(`${names.pooler}.weight`)) return config;
  return { ...config, pooler: false };
}

/** A checkpoint that reads the matrices named as [out, in], which its files have as [in, out]. */
export function withTransposed(checkpoint: Checkpoint, names: ReadonlySet<string>): Checkpoint {
  if (names.size === 0) return checkpoint;
  const { folder, tensors } = checkpoint;
  return {
    folder,
    tensors,
    async read(name) {
      const values = await checkpoint.read(name);
      if (!names.has(name)) return values;
      const [rows, columns] = tensors.get(name)!.shape;
      return transposedRows(values, rows, columns);
    },
  };
}

/** Tables that old programs saved and every program computes. */
const COMPUTED =
  /\.rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$|\.attention\.(masked_)?bias$|(^|\.)embeddings\.(position|token_type)_ids$/;
const NAMED = 3;

/** What to tell of tensors that the model has no place for, which are left out; undefined where there are none. */
export function unusedNotice(
  { folder, tensors }: Checkpoint,
  parameters: Parameters,
  { others }: NetworkNames,
): string | undefined {
  const unused = [...tensors.keys()].filter(
    (name) => !parameters.has(name) && !COMPUTED.test(name) && !others?.test(name),
  );
  if (unused.length === 0) return undefined;
  const more = unused.length > NAMED ? ` and ${unused.length - NAMED} more` : '';
  return (
    `${folder}: config.json has no place for ${unused.length === 1 ? 'a tensor' : `${unused.length} tensors`} of the ` +
    `weights, left out as transformers does: ${unused.slice(0, NAMED).join(', ')}${more}`
  );
}
