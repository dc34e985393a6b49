/** A model with an adapter merged in, as a GGUF file. */
import { UserError } from '../base/errors.js';
import type { WorkOptions } from '../base/work.js';
import { ARCHITECTURES } from '../formats/gguf/config.js';
import { type GgufModel, writeModelGguf } from '../formats/gguf/model.js';
import type { GgufDType } from '../formats/gguf/types.js';
import type { Runtime } from '../graph/runtime/session.js';
import type { BaseModel } from '../models/base.js';
import { isLlamaLike, type ModelConfig, type RopeConfig } from '../models/model.js';
import type { Adapter } from './adapter.js';
import { mergedTensors, type WithTokenizer } from './merge.js';

/** What llama.cpp calls the models that it has under another name. */
const LLAMA_CPP_NAMES: Readonly<Record<string, string>> = { mistral: 'llama' };

/** llama.cpp's name of a model's architecture. Throws UserError where it has none; `what` would be converted. */
export function llamaCppName(place: string, { modelType }: ModelConfig, what: string): string {
  const name = LLAMA_CPP_NAMES[modelType] ?? modelType;
  if (Object.hasOwn(ARCHITECTURES, name)) return name;
  throw new UserError(`${place}: ${what} ${modelType} are not converted`);
}

/** Sizes by Hugging Face's names. */
export function ggufDims(config: ModelConfig, tied = config.tieWordEmbeddings) {
  return {
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    vocab_size: config.vocabSize,
    tie_word_embeddings: tied,
  };
}

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
  const architecture = llamaCppName(folder, config, 'models of type');
  const { bias, qkNorm } = ARCHITECTURES[architecture];
  if (!isLlamaLike(config))
    throw new UserError(`${folder}: models of type ${config.modelType} are not converted`);
  if (config.bias.qkv !== bias || config.bias.o || config.bias.mlp || (config.qkNorm !== null) !== qkNorm) {
    throw new UserError(
      `${folder}: its biases are other than those of ${config.modelType} in llama.cpp, so it is not written as GGUF`,
    );
  }
  const { tensors, tied, vocabSize } = mergedTensors(runtime, model, adapter);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const given: GgufModel = {
    folder,
    tokenizerFolder: adapter?.tokenizer?.folder,
    templates: tokenizer?.chatTemplates,
    architecture,
    config: {
      ...ggufDims({ ...config, vocabSize }, tied),
      max_position_embeddings: config.maxPositions,
      rms_norm_eps: config.rmsNormEps,
      rope_theta: config.ropes[0].theta,
      rope_scaling: scalingOf(folder, config.ropes[0]),
    },
    read: (name) => byName.get(name)!.values(),
  };
  await writeModelGguf(path, given, dtype, work);
}

/** What to tell of a model that llama.cpp computes otherwise; undefined where it does not. */
export function ggufNotice({ folder, config }: BaseModel): string | undefined {
  if (!isLlamaLike(config)) return undefined;
  const { attention, maxPositions } = config;
  const window = Math.min(...attention.map((layer) => layer.window ?? Number.POSITIVE_INFINITY));
  if (window >= maxPositions) return undefined;
  return `${folder}: llama.cpp has no sliding window for ${config.modelType}: texts of more than ${window} tokens come out otherwise there`;
}

function scalingOf(folder: string, { scaling }: RopeConfig): GgufModel['config']['rope_scaling'] {
  switch (scaling.type) {
    case 'default':
      return null;
    case 'linear':
      return { rope_type: 'linear', factor: scaling.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: scaling.factor,
        low_freq_factor: scaling.lowFreqFactor,
        high_freq_factor: scaling.highFreqFactor,
        original_max_position_embeddings: scaling.originalMaxPositions,
      };
    default:
      throw new UserError(`${folder}: rotary embeddings of type ${scaling.type} are not written as GGUF`);
  }
}
