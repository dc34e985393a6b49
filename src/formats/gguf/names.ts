/** The tensors of a llama.cpp model under Hugging Face's names, and the order of rows that differs between the two. */
import type { Architecture, HfConfig } from './config.js';

/** What decides which tensors a model has, and their shapes. */
export type ModelDims = Pick<
  HfConfig,
  | 'hidden_size'
  | 'intermediate_size'
  | 'num_hidden_layers'
  | 'num_attention_heads'
  | 'num_key_value_heads'
  | 'head_dim'
  | 'vocab_size'
  | 'tie_word_embeddings'
>;

/** One tensor of the model: its two names, its shape, and for q and k of permuted models the number of heads. */
export interface ModelTensor {
  gguf: string;
  hf: string;
  shape: number[];
  permutedHeads?: number;
}

/** Every tensor of a model of that architecture. */
export function modelTensors(architecture: Architecture, dims: ModelDims): ModelTensor[] {
  const { hidden_size: hidden, intermediate_size: inner, head_dim: headDim, vocab_size: vocab } = dims;
  const heads = dims.num_attention_heads;
  const kvHeads = dims.num_key_value_heads;
  const list: ModelTensor[] = [
    { gguf: 'token_embd.weight', hf: 'model.embed_tokens.weight', shape: [vocab, hidden] },
    { gguf: 'output_norm.weight', hf: 'model.norm.weight', shape: [hidden] },
  ];
  if (!dims.tie_word_embeddings)
    list.push({ gguf: 'output.weight', hf: 'lm_head.weight', shape: [vocab, hidden] });
  for (let layer = 0; layer < dims.num_hidden_layers; layer++) {
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
 * Hugging Face's order of rows from llama.cpp's. llama.cpp rotates neighbouring rows of a head, Hugging Face rows half
 * a head apart: row 2i + half of a head in the file is row half·(headDim / 2) + i here.
 */
export function unpermuteRows<T extends Float32Array | Uint8Array>(
  values: T,
  rows: number,
  heads: number,
): T {
  return moveRows(values, rows, heads, (to, from, out, width) =>
    out.set(values.subarray(from * width, (from + 1) * width), to * width),
  );
}

/** llama.cpp's order of rows from Hugging Face's: unpermuteRows' inverse. */
export function permuteRows<T extends Float32Array | Uint8Array>(values: T, rows: number, heads: number): T {
  return moveRows(values, rows, heads, (from, to, out, width) =>
    out.set(values.subarray(from * width, (from + 1) * width), to * width),
  );
}

/** Calls `move` for each row with its index in Hugging Face's order and in llama.cpp's. */
function moveRows<T extends Float32Array | Uint8Array>(
  values: T,
  rows: number,
  heads: number,
  move: (huggingFace: number, llamaCpp: number, out: T, width: number) => void,
): T {
  const headDim = rows / heads;
  const out = values.slice() as T;
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim;
    move(row - inHead + (inHead % 2) * (headDim / 2) + (inHead >> 1), row, out, values.length / rows);
  }
  return out;
}
