/** Whole models as llama.cpp reads them. */
import { basename } from 'node:path';
import { refuseNonFinite } from '../../base/finite.js';
import { Turns, type WorkOptions } from '../../base/work.js';
import type { ChatTemplates } from '../chat.js';
import { ARCHITECTURES, type HfConfig, llama3Factors } from './config.js';
import { type ModelDims, type ModelTensor, modelTensors, permuteRows } from './names.js';
import { encodeGgml } from './quantize.js';
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
  /** A key of ARCHITECTURES. */
  architecture: string;
  config: ModelDims &
    Pick<HfConfig, 'max_position_embeddings' | 'rms_norm_eps' | 'rope_theta' | 'rope_scaling'>;
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
  const { folder, tokenizerFolder = folder, templates, architecture, config } = model;
  const tensors = modelTensors(ARCHITECTURES[architecture], config);
  const fields = [
    ...modelFields(model, dtype),
    ...(await tokenizerFields(tokenizerFolder, config.vocab_size, { model: folder, templates })),
  ];
  const turns = new Turns(signal);
  let done = 0;
  const entries = tensors.map((tensor): GgufEntry => {
    const type = typeOf(tensor, dtype, config.tie_word_embeddings);
    const data = async () => {
      await turns.take();
      const values = await model.read(tensor.hf);
      refuseNonFinite(`cannot write ${path}`, tensor.hf, values);
      const { permutedHeads: heads } = tensor;
      const rows = heads === undefined ? values : permuteRows(values, tensor.shape[0], heads);
      onProgress?.({ what: 'writing', done: ++done, total: tensors.length, unit: 'tensors' });
      return encodeGgml(rows, type, `cannot write ${path}: tensor "${tensor.hf}"`);
    };
    return { name: tensor.gguf, dtype: type, shape: tensor.shape, data };
  });
  await writeGguf(path, fields, [...entries, ...frequencyFactors(model)]);
}

function typeOf({ gguf, shape }: ModelTensor, dtype: GgufDType, tied: boolean): GgufDType {
  if (shape.length === 1) return 'float32';
  const isHead = gguf === (tied ? 'token_embd.weight' : 'output.weight');
  const wanted = isHead && dtype === 'q4_0' ? 'q8_0' : dtype;
  return shape[1] % GGML_TYPES[GGUF_DTYPES[wanted].type].elements === 0 ? wanted : 'float16';
}

function modelFields({ folder, architecture, config }: GgufModel, dtype: GgufDType): GgufField[] {
  const whole = (key: string, value: number): GgufField => ({ key, type: 'uint32', value });
  const real = (key: string, value: number): GgufField => ({ key, type: 'float32', value });
  const text = (key: string, value: string): GgufField => ({ key, type: 'string', value });
  const own = (key: string) => `${architecture}.${key}`;
  const { rope_scaling: scaling } = config;
  return [
    text('general.architecture', architecture),
    text('general.type', 'model'),
    text('general.name', basename(folder)),
    whole('general.file_type', GGUF_DTYPES[dtype].fileType),
    whole('general.quantization_version', 2),
    whole(own('block_count'), config.num_hidden_layers),
    whole(own('context_length'), config.max_position_embeddings),
    whole(own('embedding_length'), config.hidden_size),
    whole(own('feed_forward_length'), config.intermediate_size),
    whole(own('attention.head_count'), config.num_attention_heads),
    whole(own('attention.head_count_kv'), config.num_key_value_heads),
    whole(own('attention.key_length'), config.head_dim),
    whole(own('attention.value_length'), config.head_dim),
    real(own('attention.layer_norm_rms_epsilon'), config.rms_norm_eps),
    whole(own('rope.dimension_count'), config.head_dim),
    real(own('rope.freq_base'), config.rope_theta),
    whole(own('vocab_size'), config.vocab_size),
    ...(scaling?.rope_type === 'linear'
      ? [text(own('rope.scaling.type'), 'linear'), real(own('rope.scaling.factor'), scaling.factor)]
      : []),
  ];
}

/** Llama 3's scaling, which llama.cpp has as a factor for each frequency. */
function frequencyFactors({ config }: GgufModel): GgufEntry[] {
  const { rope_scaling: scaling, head_dim, rope_theta } = config;
  if (scaling?.rope_type !== 'llama3') return [];
  const factors = Float32Array.from(llama3Factors(scaling, head_dim, rope_theta));
  const data = () => encodeGgml(factors, 'float32');
  return [{ name: 'rope_freqs.weight', dtype: 'float32', shape: [factors.length], data }];
}
