/** GGUF in, Hugging Face folder out. */
import { join } from 'node:path';
import { UserError } from '../../base/errors.js';
import { type StoredDType, sizeOf } from '../../base/tensor.js';
import { writeCheckpoint } from '../checkpoint.js';
import { writeFileAtomic, writeFolderAtomic } from '../io/write.js';
import type { TensorEntry } from '../safetensors.js';
import { configOf, type HfConfig } from './config.js';
import { Metadata } from './metadata.js';
import { type Gguf, readGguf } from './reader.js';
import { tokenizerOf } from './tokenizer.js';
import { exactDType, type GgufEntry, weightEntries } from './weights.js';

export interface GgufToHfOptions {
  /** What all weights are rounded to; default: each tensor's own type, float32 for what is quantized. */
  dtype?: StoredDType;
  /** Weights above this many bytes are split over several files; default 5 GB. */
  maxShardBytes?: number;
  /** What to write of the entries instead of them as they are. */
  store?: (entries: readonly GgufEntry[], config: HfConfig) => TensorEntry[];
  /** Writes what else belongs into the folder. */
  beside?: (folder: string) => Promise<void>;
  /** Replace an existing output folder. */
  overwrite?: boolean;
}

/**
 * Converts a model of the Llama family (llama, qwen2, qwen3) into a Hugging Face folder: config.json,
 * generation_config.json, model.safetensors (in shards above maxShardBytes), tokenizer.json and
 * tokenizer_config.json. One tensor is held at a time; the folder appears whole or not at all.
 * @throws UserError when the file is broken, holds something that is not converted, or the folder exists.
 */
export async function ggufToHf(
  ggufPath: string,
  outFolder: string,
  { dtype, maxShardBytes, store, beside, overwrite = false }: GgufToHfOptions = {},
): Promise<void> {
  const gguf = await readGguf(ggufPath);
  const { architecture, config } = await configOf(gguf, dtype ?? commonDType(gguf));
  const { tokenizer, config: tokenizerConfig } = tokenizerOf(gguf);
  refuseTooManyTokens(gguf, config);
  const entries = weightEntries(gguf, architecture, config, dtype);
  await writeFolderAtomic(
    outFolder,
    async (folder) => {
      const write = (name: string, value: object) =>
        writeFileAtomic(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
      await write('config.json', config);
      await write('generation_config.json', generationConfig(gguf, config));
      await write('tokenizer.json', tokenizer);
      await write('tokenizer_config.json', tokenizerConfig);
      await writeCheckpoint(folder, store ? store(entries, config) : entries, { maxShardBytes });
      await beside?.(folder);
    },
    { overwrite },
  );
}

/**
 * The tensors of a model of the Llama family in float32, by Hugging Face's names, each read when its data is asked for.
 * @throws UserError when the file is broken or holds something that is not converted.
 */
export async function ggufEntries(ggufPath: string): Promise<GgufEntry[]> {
  const gguf = await readGguf(ggufPath);
  const { architecture, config } = await configOf(gguf, 'float32');
  return weightEntries(gguf, architecture, config, 'float32');
}

/** What config.json names where tensors keep their own types: the one of most elements. */
function commonDType(gguf: Gguf): StoredDType {
  const elements = { float32: 0, float16: 0, bfloat16: 0 };
  for (const { type, shape } of gguf.tensors.values()) elements[exactDType(type)] += sizeOf(shape);
  const [most] = Object.entries(elements).sort(([, a], [, b]) => b - a);
  return most[0] as StoredDType;
}

function refuseTooManyTokens(gguf: Gguf, config: HfConfig): void {
  const tokens = new Metadata(gguf).strings('tokenizer.ggml.tokens').length;
  if (tokens > config.vocab_size) {
    throw new UserError(`${gguf.path}: there are ${tokens} tokens and only ${config.vocab_size} embeddings`);
  }
}

/** Chat models end a turn with another token than a text: generation stops at both. */
function generationConfig(gguf: Gguf, config: HfConfig): object {
  const meta = new Metadata(gguf);
  const turn = 'tokenizer.ggml.eot_token_id';
  const ends = [
    config.eos_token_id,
    meta.has(turn) ? meta.count(turn, undefined, config.vocab_size - 1) : null,
  ];
  const stops = [...new Set(ends.filter((id) => id !== null))];
  return {
    bos_token_id: config.bos_token_id,
    eos_token_id: stops.length > 1 ? stops : (stops[0] ?? null),
    pad_token_id: config.pad_token_id,
  };
}
