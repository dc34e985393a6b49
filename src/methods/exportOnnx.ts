/** A model with an adapter merged in, in the layout that transformers.js loads. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import { Turns, type WorkOptions } from '../base/work.js';
import { readJson } from '../formats/io/node.js';
import { writeFileAtomic, writeFolderAtomic } from '../formats/io/write.js';
import { writeOnnx } from '../formats/onnx/write.js';
import { taskKeys } from '../formats/task.js';
import {
  configJson,
  KNOWN_TYPES,
  ONNX_FILES,
  ONNX_FOLDER,
  type OnnxDType,
  writeGenerationConfig,
  writeTokenizer,
} from '../formats/transformersJs.js';
import type { Runtime } from '../graph/runtime/session.js';
import type { BaseModel } from '../models/base.js';
import { architectures } from '../models/index.js';
import type { ModelConfig } from '../models/model.js';
import type { Adapter } from './adapter.js';
import { refuseNewHead } from './head.js';
import { mergedTensors, type WithTokenizer } from './merge.js';
import { isDecoder, onnxGraph } from './onnxGraph.js';

const DEFAULT_DTYPES: readonly OnnxDType[] = ['fp32', 'q8'];

export interface OnnxOptions extends WorkOptions {
  /** Element types of the weights, a file each. Default: fp32 and q8, which transformers.js takes in Node and in browsers. */
  dtype?: readonly OnnxDType[];
  /** Weights of a file that would be longer go into files of at most this size beside it. Default: 2 GB. */
  maxShardBytes?: number;
  /** Replace an existing folder. */
  overwrite?: boolean;
}

/** What was written. */
export interface ExportedModel {
  /** Paths of the ONNX files within the folder. */
  files: string[];
  dtype: OnnxDType[];
}

/**
 * Writes a folder that transformers.js loads, whole or not at all: config.json, tokenizer, generation_config.json, and under onnx/ a
 * graph with its weights for each type. One tensor is held at a time. Throws UserError where the method cannot merge,
 * transformers.js does not know the type of model, or the folder exists.
 */
export async function writeOnnxModel(
  folder: string,
  runtime: Runtime,
  model: BaseModel,
  adapter: Adapter | undefined,
  {
    dtype: dtypes = DEFAULT_DTYPES,
    maxShardBytes,
    overwrite,
    onProgress,
    signal,
    tokenizer,
  }: OnnxOptions & WithTokenizer = {},
): Promise<ExportedModel> {
  const { config, network, sites } = model;
  refuseUnknown(model);
  refuseNewHead(model, adapter);
  const { tensors, tied, vocabSize } = mergedTensors(runtime, model, adapter);
  const chosen = [...new Set(dtypes)];
  const graphs = chosen.map((dtype) => ({ dtype, graph: onnxGraph(network, sites, tensors, dtype) }));
  const turns = new Turns(signal);
  const files = new Map<OnnxDType, number>();
  await writeFolderAtomic(
    folder,
    async (temporary) => {
      const inside = join(temporary, ONNX_FOLDER);
      await mkdir(inside);
      for (const { dtype, graph } of graphs) {
        let done = 0;
        const read = async (name: string) => {
          await turns.take();
          const bytes = await graph.read(name);
          onProgress?.({ what: `writing ${dtype}`, done: ++done, total: graph.weights, unit: 'tensors' });
          return bytes;
        };
        files.set(dtype, await writeOnnx(inside, ONNX_FILES[dtype], graph.bytes, read, { maxShardBytes }));
      }
      const base = await readJson(join(model.folder, 'config.json'), z.record(z.string(), z.unknown()));
      const changes = {
        vocab_size: vocabSize,
        ...(config.task && taskKeys(base, config.task)),
        ...(base.tie_word_embeddings === true && !tied && { tie_word_embeddings: false }),
      };
      const content = configJson({ config: base, sizes: sizesOf(config), changes, files });
      await writeFileAtomic(join(temporary, 'config.json'), content);
      await writeTokenizer(temporary, {
        folder: adapter?.tokenizer?.folder ?? model.folder,
        tokenizer,
        hasTypes: network.stream.types > 1,
        ...(!isDecoder(network) && { maxPositions: config.maxPositions }),
      });
      if (isDecoder(network)) await writeGenerationConfig(model.folder, temporary, tokenizer?.eosIds ?? []);
    },
    { overwrite },
  );
  return { files: chosen.map((dtype) => `${ONNX_FOLDER}/${ONNX_FILES[dtype]}`), dtype: chosen };
}

/** Throws UserError for what transformers.js has no class for. */
function refuseUnknown({ config: { modelType, task }, network }: BaseModel): void {
  if (!KNOWN_TYPES.has(modelType)) {
    const known = Object.keys(architectures).filter((type) => KNOWN_TYPES.has(type));
    throw new UserError(
      `a model of type ${modelType} cannot be exported: transformers.js has none such, of those that are here only ${known.join(', ')}`,
    );
  }
  if (task && network.stream.attends === 'causal') {
    throw new UserError(
      `a ${modelType} for ${task.kind} cannot be exported: transformers.js has such heads on encoders only`,
    );
  }
}

/** The sizes that transformers.js reads of a configuration, by the names that this type of model has for them. */
function sizesOf(c: ModelConfig): Record<string, number> {
  if (c.modelType === 'gpt2') return { n_layer: c.layers, n_head: c.heads, n_embd: c.hiddenSize };
  if (c.modelType === 'distilbert') return { n_layers: c.layers, n_heads: c.heads, dim: c.hiddenSize };
  return {
    num_hidden_layers: c.layers,
    num_attention_heads: c.heads,
    num_key_value_heads: c.kvHeads,
    hidden_size: c.hiddenSize,
    head_dim: c.headDim,
  };
}
