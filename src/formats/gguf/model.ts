/** Whole models as llama.cpp reads them. */
import { basename } from 'node:path';
import { refuseNonFinite } from '../../base/finite.js';
import { Turns, type WorkOptions } from '../../base/work.js';
import type { ChatTemplates } from '../chat.js';
import { encodeGgml } from './quantize.js';
import { type GgufWeight, ggufShape, toGgufRows } from './rows.js';
import { tokenizerFields } from './tokenizerFields.js';
import { GGML_TYPES, GGUF_DTYPES, type GgufDType } from './types.js';
import { type GgufEntry, type GgufField, writeGguf } from './writer.js';

/** A model to write: what its metadata is made of, and where its tensors come from. */
export interface GgufModel {
  folder: string;
  /** Where tokenizer and chat template are read; default: its folder. */
  tokenizerFolder?: string;
  /** Chat templates instead of those that lie there. */
  templates?: ChatTemplates;
  /** llama.cpp's name of the architecture. */
  architecture: string;
  vocabSize: number;
  /** Metadata under the architecture's name. */
  fields: readonly GgufField[];
  weights: readonly GgufWeight[];
  /** What scales the frequencies of rotary embeddings, by the tensors' names. */
  factors: ReadonlyMap<string, Float32Array>;
  /** A tensor's values, by Hugging Face's name and in its order of rows. */
  read(name: string): Promise<Float32Array>;
}

/**
 * Writes a model with tokenizer and chat template as one GGUF file, whole or not at all, replacing a file of that name; one
 * tensor is held at a time. Matrices are of `dtype`, vectors float32. Of q4_0 the matrix that logits come from is q8_0, and a
 * matrix whose rows are no whole blocks is float16. Throws UserError where a value is not finite, or the tokenizer is none
 * that llama.cpp has.
 */
export async function writeModelGguf(
  path: string,
  model: GgufModel,
  dtype: GgufDType,
  { onProgress, signal }: WorkOptions = {},
): Promise<void> {
  const { folder, tokenizerFolder = folder, templates, vocabSize, weights, factors } = model;
  const fields = [
    ...generalFields(model, dtype),
    ...model.fields,
    ...(await tokenizerFields(tokenizerFolder, vocabSize, { model: folder, templates })),
  ];
  const turns = new Turns(signal);
  const head = weights.some(({ gguf }) => gguf === 'output.weight') ? 'output.weight' : 'token_embd.weight';
  let done = 0;
  const encoded = async ({ hf, shape, rows, offset = 0 }: GgufWeight, type: GgufDType) => {
    await turns.take();
    const values = await model.read(hf);
    refuseNonFinite(`cannot write ${path}`, hf, values);
    const theirs = toGgufRows(values, shape[0], rows);
    onProgress?.({ what: 'writing', done: ++done, total: weights.length, unit: 'tensors' });
    const moved = offset === 0 ? theirs : theirs.map((x) => x + offset);
    return encodeGgml(moved, type, `cannot write ${path}: tensor "${hf}"`);
  };
  const entries = [...byTensor(weights)].map(([name, parts]): GgufEntry => {
    const type = typeOf(parts[0], dtype, head);
    const data = async () => {
      const all: Uint8Array[] = [];
      for (const part of parts) all.push(await encoded(part, type));
      return all.length === 1 ? all[0] : Buffer.concat(all);
    };
    return { name, dtype: type, shape: ggufShape(parts[0]), data };
  });
  const tables = [...factors].map(([name, values]): GgufEntry => {
    return { name, dtype: 'float32', shape: [values.length], data: () => encodeGgml(values, 'float32') };
  });
  await writeGguf(path, fields, [...entries, ...tables]);
}

/** What each tensor of the file is made of, in order. */
function byTensor(weights: readonly GgufWeight[]): Map<string, GgufWeight[]> {
  const found = new Map<string, GgufWeight[]>();
  for (const weight of weights) found.set(weight.gguf, [...(found.get(weight.gguf) ?? []), weight]);
  for (const parts of found.values()) parts.sort((a, b) => (a.part?.index ?? 0) - (b.part?.index ?? 0));
  return found;
}

function typeOf({ gguf, shape, isExact }: GgufWeight, dtype: GgufDType, head: string): GgufDType {
  if (shape.length === 1 || isExact) return 'float32';
  const wanted = gguf === head && dtype === 'q4_0' ? 'q8_0' : dtype;
  return shape[1] % GGML_TYPES[GGUF_DTYPES[wanted].type].elements === 0 ? wanted : 'float16';
}

function generalFields({ folder, architecture, vocabSize }: GgufModel, dtype: GgufDType): GgufField[] {
  return [
    { key: 'general.architecture', type: 'string', value: architecture },
    { key: 'general.type', type: 'string', value: 'model' },
    { key: 'general.name', type: 'string', value: basename(folder) },
    { key: 'general.file_type', type: 'uint32', value: GGUF_DTYPES[dtype].fileType },
    { key: 'general.quantization_version', type: 'uint32', value: 2 },
    { key: `${architecture}.vocab_size`, type: 'uint32', value: vocabSize },
  ];
}
