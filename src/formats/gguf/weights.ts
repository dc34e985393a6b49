/** The tensors of a llama.cpp model under Hugging Face's names and in its order of rows. */
import { UserError } from '../../base/errors.js';
import type { StoredDType } from '../../base/tensor.js';
import { encodeF32 } from '../float16.js';
import { safetensorsDType, type TensorEntry } from '../safetensors.js';
import type { Architecture, HfConfig } from './config.js';
import { type Gguf, type GgufTensor, readGgufTensor } from './reader.js';

/** One tensor of the model: its two names, its shape, and for q and k of permuted models the number of heads. */
interface Wanted {
  gguf: string;
  hf: string;
  shape: number[];
  permutedHeads?: number;
}

/** Only there to be converted into the configuration. */
const FOLDED_INTO_CONFIG = new Set(['rope_freqs.weight']);

/**
 * Entries to write, each dequantized when its turn comes.
 * @throws UserError when a tensor of the architecture is missing, has another shape, or the file has one more.
 */
export function weightEntries(
  gguf: Gguf,
  architecture: Architecture,
  config: HfConfig,
  dtype: StoredDType,
): TensorEntry[] {
  const wanted = wantedTensors(architecture, config);
  const known = new Set(wanted.map((w) => w.gguf));
  for (const name of gguf.tensors.keys()) {
    if (!known.has(name) && !FOLDED_INTO_CONFIG.has(name)) {
      throw new UserError(`${gguf.path}: tensor "${name}" is not part of a ${config.model_type} model`);
    }
  }
  return wanted.map(({ gguf: name, hf, shape, permutedHeads }) => {
    const info = tensorOf(gguf, name, shape);
    return {
      name: hf,
      dtype: safetensorsDType(dtype),
      shape,
      data: async () => {
        const values = await readGgufTensor(gguf, info);
        return encodeF32(
          permutedHeads === undefined ? values : unpermute(values, shape, permutedHeads),
          dtype,
        );
      },
    };
  });
}

function tensorOf(gguf: Gguf, name: string, shape: readonly number[]): GgufTensor {
  const info = gguf.tensors.get(name);
  if (info === undefined) throw new UserError(`${gguf.path}: tensor "${name}" is missing`);
  if (info.shape.join() !== shape.join()) {
    throw new UserError(
      `${gguf.path}: tensor "${name}" has shape [${info.shape.join(', ')}], expected [${shape.join(', ')}]`,
    );
  }
  return info;
}

function wantedTensors(architecture: Architecture, config: HfConfig): Wanted[] {
  const { hidden_size: hidden, intermediate_size: inner, head_dim: headDim, vocab_size: vocab } = config;
  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads;
  const list: Wanted[] = [
    { gguf: 'token_embd.weight', hf: 'model.embed_tokens.weight', shape: [vocab, hidden] },
    { gguf: 'output_norm.weight', hf: 'model.norm.weight', shape: [hidden] },
  ];
  if (!config.tie_word_embeddings)
    list.push({ gguf: 'output.weight', hf: 'lm_head.weight', shape: [vocab, hidden] });
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const add = (gguf: string, hf: string, shape: number[], permutedHeads?: number) =>
      list.push({ gguf: `blk.${layer}.${gguf}`, hf: `model.layers.${layer}.${hf}`, shape, permutedHeads });
    add('attn_norm.weight', 'input_layernorm.weight', [hidden]);
    add('ffn_norm.weight', 'post_attention_layernorm.weight', [hidden]);
    for (const [part, count] of [
      ['q', heads],
      ['k', kvHeads],
      ['v', kvHeads],
    ] as const) {
      const permuted = architecture.permuted && part !== 'v' ? count : undefined;
      add(`attn_${part}.weight`, `self_attn.${part}_proj.weight`, [count * headDim, hidden], permuted);
      if (architecture.bias)
        add(`attn_${part}.bias`, `self_attn.${part}_proj.bias`, [count * headDim], permuted);
    }
    if (architecture.qkNorm) {
      add('attn_q_norm.weight', 'self_attn.q_norm.weight', [headDim]);
      add('attn_k_norm.weight', 'self_attn.k_norm.weight', [headDim]);
    }
    add('attn_output.weight', 'self_attn.o_proj.weight', [hidden, heads * headDim]);
    add('ffn_gate.weight', 'mlp.gate_proj.weight', [inner, hidden]);
    add('ffn_up.weight', 'mlp.up_proj.weight', [inner, hidden]);
    add('ffn_down.weight', 'mlp.down_proj.weight', [hidden, inner]);
  }
  return list;
}

/**
 * llama.cpp rotates neighbouring rows of a head, Hugging Face rows half a head apart: row 2i + half of a
 * head in the file is row half·(headDim / 2) + i here.
 */
function unpermute(values: Float32Array, shape: readonly number[], heads: number): Float32Array {
  const headDim = shape[0] / heads;
  const width = values.length / shape[0];
  const out = new Float32Array(values.length);
  for (let row = 0; row < shape[0]; row++) {
    const head = row - (row % headDim);
    const inHead = row % headDim;
    const to = head + (inHead % 2) * (headDim / 2) + (inHead >> 1);
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return out;
}
