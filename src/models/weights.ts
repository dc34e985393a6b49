/** A checkpoint beside its config.json: tensors by the names that the model has for them, and what does not fit said. */
import { UserError } from '../base/errors.js';
import { type Checkpoint, checkpointOf } from '../formats/checkpoint.js';
import { quantFormats } from '../formats/quant/index.js';
import { equalTensors, type TensorInfo } from '../formats/safetensors.js';
import type { DecoderConfig } from './model.js';

const HEAD = 'lm_head.weight';
const EMBEDDING = 'model.embed_tokens.weight';
/** What the checkpoint of a decoder without a head leaves out of its names. */
const PREFIX = 'model.';

type Parameters = ReadonlyMap<string, readonly number[]>;

/** Throws UserError where config.json asks for more layers than the checkpoint has anything of. */
export function refuseMoreLayers(
  place: string,
  { layers }: DecoderConfig,
  { folder, tensors }: Checkpoint,
): void {
  const found = new Set([...tensors.keys()].map((name) => /(?:^|\.)layers\.(\d+)\./.exec(name)?.[1]));
  found.delete(undefined);
  if (layers <= found.size) return;
  throw new UserError(
    `${place}: key "num_hidden_layers" is ${layers}, and the weights in ${folder} are those of ${found.size} layers`,
  );
}

/** A checkpoint by the names of `parameters`: one of the decoder alone lacks the prefix of its tensors. */
export function withPrefix(checkpoint: Checkpoint, parameters: Parameters): Checkpoint {
  const { tensors } = checkpoint;
  const known = (name: string) =>
    parameters.has(name) ||
    quantFormats.some((f) => name.endsWith(`.${f}`) && parameters.has(name.slice(0, -f.length - 1)));
  const renamed = [...tensors.values()].map((info): TensorInfo => {
    const name = `${PREFIX}${info.name}`;
    const missing = !known(info.name) && known(name) && !tensors.has(name);
    return missing ? { ...info, name } : info;
  });
  return checkpointOf(checkpoint.folder, new Map(renamed.map((info) => [info.name, info])));
}

/**
 * What the head of a model with `tieWordEmbeddings` is, as transformers decides it: the embedding's matrix, where the
 * checkpoint has one of the two or both alike; its own, where it has two that differ.
 */
export async function settleHead(
  config: DecoderConfig,
  checkpoint: Checkpoint,
): Promise<{ config: DecoderConfig; checkpoint: Checkpoint; notice?: string }> {
  const head = checkpoint.tensors.get(HEAD);
  if (!config.tieWordEmbeddings || !head) return { config, checkpoint };
  const embedding = checkpoint.tensors.get(EMBEDDING);
  if (embedding && !(await equalTensors(embedding, head))) {
    const notice =
      `${checkpoint.folder}: config.json ties the LM head to the embeddings, and the weights have another matrix for ` +
      'it: that one is used, as transformers does';
    return { config: { ...config, tieWordEmbeddings: false }, checkpoint, notice };
  }
  const tensors = new Map(checkpoint.tensors);
  tensors.delete(HEAD);
  if (!embedding) tensors.set(EMBEDDING, { ...head, name: EMBEDDING });
  return { config, checkpoint: checkpointOf(checkpoint.folder, tensors) };
}

/** Tables that old programs saved and every program computes. */
const COMPUTED = /\.rotary_emb\.inv_freq$/;
const NAMED = 3;

/** What to tell of tensors that the model has no place for, which are left out; undefined where there are none. */
export function unusedNotice({ folder, tensors }: Checkpoint, parameters: Parameters): string | undefined {
  const unused = [...tensors.keys()].filter((name) => !parameters.has(name) && !COMPUTED.test(name));
  if (unused.length === 0) return undefined;
  const more = unused.length > NAMED ? ` and ${unused.length - NAMED} more` : '';
  return (
    `${folder}: config.json has no place for ${unused.length === 1 ? 'a tensor' : `${unused.length} tensors`} of the ` +
    `weights, left out as transformers does: ${unused.slice(0, NAMED).join(', ')}${more}`
  );
}
