/** A model of a GGUF file as a Hugging Face folder. */
import { join } from 'node:path';
import { UserError } from '../../base/errors.js';
import { type StoredDType, sizeOf } from '../../base/tensor.js';
import { writeCheckpoint } from '../checkpoint.js';
import { writeFileAtomic, writeFolderAtomic } from '../io/write.js';
import type { TensorEntry } from '../safetensors.js';
import { Metadata } from './metadata.js';
import type { Gguf } from './reader.js';
import type { GgufWeight } from './rows.js';
import { tokenizerOf } from './tokenizer.js';
import { exactDType, type GgufModelEntry, weightEntries } from './weights.js';

/** A config.json; of its keys only these are looked at here. */
export interface HfConfig {
  model_type: string;
  vocab_size: number;
  bos_token_id: number | null;
  eos_token_id: number | null;
  pad_token_id: number | null;
  [key: string]: unknown;
}

/** What the model in a GGUF file is, in Hugging Face's words. */
export interface DescribedGguf {
  gguf: Gguf;
  config: HfConfig;
  weights: readonly GgufWeight[];
}

export interface GgufToHfOptions {
  /** What all weights are rounded to; default: each tensor's own type, float32 for what is quantized. */
  dtype?: StoredDType;
  /** Weights above this many bytes are split over several files; default 5 GB. */
  maxShardBytes?: number;
  /** What to write of the entries instead of them as they are. */
  store?: (entries: readonly GgufModelEntry[], config: HfConfig) => TensorEntry[];
  /** Writes what else belongs into the folder. */
  beside?: (folder: string) => Promise<void>;
  /** Replace an existing output folder. */
  overwrite?: boolean;
}

/**
 * Writes config.json, generation_config.json, model.safetensors (in shards above maxShardBytes), tokenizer.json and
 * tokenizer_config.json. One tensor is held at a time; the folder appears whole or not at all.
 * @throws UserError when the file's tokenizer is not converted, a tensor does not fit, or the folder exists.
 */
export async function writeHfFolder(
  outFolder: string,
  { gguf, config, weights }: DescribedGguf,
  { dtype, maxShardBytes, store, beside, overwrite = false }: GgufToHfOptions = {},
): Promise<void> {
  const { tokenizer, config: tokenizerConfig } = tokenizerOf(gguf);
  refuseTooManyTokens(gguf, config);
  const entries = weightEntries(gguf, config.model_type, weights, dtype);
  const written = { ...config, torch_dtype: dtype ?? commonDType(gguf) };
  await writeFolderAtomic(
    outFolder,
    async (folder) => {
      const write = (name: string, value: object) =>
        writeFileAtomic(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
      await write('config.json', written);
      await write('generation_config.json', generationConfig(gguf, config));
      await write('tokenizer.json', tokenizer);
      await write('tokenizer_config.json', tokenizerConfig);
      const tensors = store ? store(entries, written) : entries.map(({ stored }) => stored);
      await writeCheckpoint(folder, tensors, { maxShardBytes });
      await beside?.(folder);
    },
    { overwrite },
  );
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
