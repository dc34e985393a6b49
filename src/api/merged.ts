/** Where a merged model goes: a Hugging Face folder, or a GGUF file. */
import { UserError } from '../base/errors.js';
import { sizeOf } from '../base/tensor.js';
import { readGguf } from '../formats/gguf/reader.js';
import { GGUF_DTYPES, type GgmlType, type GgufDType, ggufDTypes } from '../formats/gguf/types.js';
import { refuseExisting } from '../formats/io/write.js';
import { weightDType } from '../formats/safetensors.js';
import type { TaskKind } from '../formats/task.js';
import type { Tokenizer } from '../formats/tokenizer.js';
import type { Runtime } from '../graph/runtime/session.js';
import type { Adapter } from '../methods/adapter.js';
import { type MergeOptions, writeMergedModel } from '../methods/merge.js';
import { writeMergedGguf } from '../methods/mergeGguf.js';
import type { BaseModel } from '../models/base.js';
import { ggufNotice } from '../models/gguf/write.js';

export const mergedFormats = ['hf', 'gguf'] as const;
export type MergedFormat = (typeof mergedFormats)[number];

export interface SaveMergedOptions extends Omit<MergeOptions, 'dtype'> {
  /** A Hugging Face folder, or a GGUF file for llama.cpp. Default: by the name of what is written. */
  format?: MergedFormat;
  /**
   * Element type of the weights; q8_0 and q4_0 for GGUF only. Default: in a folder each tensor's own, as PEFT does, in a GGUF
   * file that of most weights, float16 where that is float32.
   */
  dtype?: GgufDType;
  onNotice?: (message: string) => void;
}

/** What was written. */
export interface SavedModel {
  format: MergedFormat;
  /** Absent: each tensor's own. */
  dtype?: GgufDType;
  /** What the model answers, where that is not the next token. */
  task?: TaskKind;
}

/** The format of an output by its name. */
export function formatOfOutput(path: string): MergedFormat {
  return path.toLowerCase().endsWith('.gguf') ? 'gguf' : 'hf';
}

/** What is merged. */
export interface Merged {
  base: BaseModel;
  adapter?: Adapter;
  /** The tokenizer that chats are written with; default: the base's own. */
  tokenizer?: Tokenizer;
}

/** Writes a model with an adapter merged in, or alone. Throws UserError as the writers of the two formats do. */
export async function writeMerged(
  path: string,
  runtime: Runtime,
  { base: model, adapter, tokenizer }: Merged,
  { format = formatOfOutput(path), dtype, onNotice, ...options }: SaveMergedOptions = {},
): Promise<SavedModel> {
  if (format === 'hf') {
    if (dtype === 'q8_0' || dtype === 'q4_0') {
      throw new UserError(
        `${dtype} is an element type of GGUF files: write one (format gguf), or choose another`,
      );
    }
    await writeMergedModel(path, runtime, model, adapter, { dtype, tokenizer, ...options });
    const { task } = model.config;
    return { format, dtype, ...(task && { task: task.kind }) };
  }
  if (!options.overwrite) await refuseExisting(path);
  const notice = ggufNotice(model);
  if (notice) onNotice?.(notice);
  const written = dtype ?? commonDType(model);
  await writeMergedGguf(path, runtime, model, adapter, { dtype: written, tokenizer, ...options });
  return { format, dtype: written };
}

/** The 16 bits that most weights have, float16 where they have more. */
function commonDType({ checkpoint }: BaseModel): GgufDType {
  const counts = new Map<string | undefined, number>();
  for (const { dtype, shape } of checkpoint.tensors.values()) {
    const kind = weightDType(dtype);
    counts.set(kind, (counts.get(kind) ?? 0) + sizeOf(shape));
  }
  return most(counts) === 'bfloat16' ? 'bfloat16' : 'float16';
}

/**
 * What the weights of a GGUF file become where nobody says: what most of them are, as far as the format has it; else
 * float16 in a folder, q8_0 in a GGUF file.
 */
export async function dtypeOfGguf(
  path: string,
  format: MergedFormat,
): Promise<{ held: GgmlType; dtype: GgufDType }> {
  const counts = new Map<GgmlType, number>();
  for (const { type, shape } of (await readGguf(path)).tensors.values()) {
    counts.set(type, (counts.get(type) ?? 0) + sizeOf(shape));
  }
  const held = most(counts);
  const known = ggufDTypes.find((dtype) => GGUF_DTYPES[dtype].type === held);
  if (format === 'gguf') return { held, dtype: known ?? 'q8_0' };
  return { held, dtype: known === 'float32' || known === 'bfloat16' ? known : 'float16' };
}

function most<T>(counts: ReadonlyMap<T, number>): T {
  return [...counts].sort(([, a], [, b]) => b - a)[0][0];
}
