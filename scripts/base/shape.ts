import { join } from 'node:path';
import { Rng } from '../../src/base/rng.js';
import { writeFileAtomic } from '../../src/formats/io/write.js';
import { writeSafetensors } from '../../src/formats/safetensors.js';
import { INIT_FOLDER } from './paths.js';

/** The base model's shape, and the weights it starts from. */
export const VOCAB_SIZE = 4096;
export const MAX_POSITIONS = 256;
const HIDDEN = 256;
const INTERMEDIATE = 640;
const LAYERS = 4;
const HEADS = 8;
const KV_HEADS = 2;
const SEED = 1;
const INIT_STD = 0.02;

const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: VOCAB_SIZE,
  hidden_size: HIDDEN,
  intermediate_size: INTERMEDIATE,
  num_hidden_layers: LAYERS,
  num_attention_heads: HEADS,
  num_key_value_heads: KV_HEADS,
  head_dim: HIDDEN / HEADS,
  hidden_act: 'silu',
  max_position_embeddings: MAX_POSITIONS,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  rope_scaling: null,
  attention_bias: false,
  mlp_bias: false,
  attention_dropout: 0,
  tie_word_embeddings: true,
  initializer_range: INIT_STD,
  bos_token_id: 0,
  eos_token_id: 0,
  pad_token_id: 0,
  use_cache: true,
};

/** The tensors by checkpoint name: shape, and the deviation they are drawn with (0: all ones, for a norm). */
function tensors(): { name: string; shape: number[]; std: number }[] {
  const kv = (HIDDEN / HEADS) * KV_HEADS;
  // As GPT-2: what is added to the residual stream starts smaller, the more often something is added.
  const residual = INIT_STD / Math.sqrt(2 * LAYERS);
  const layer = (i: number) => [
    { name: `model.layers.${i}.input_layernorm.weight`, shape: [HIDDEN], std: 0 },
    { name: `model.layers.${i}.self_attn.q_proj.weight`, shape: [HIDDEN, HIDDEN], std: INIT_STD },
    { name: `model.layers.${i}.self_attn.k_proj.weight`, shape: [kv, HIDDEN], std: INIT_STD },
    { name: `model.layers.${i}.self_attn.v_proj.weight`, shape: [kv, HIDDEN], std: INIT_STD },
    { name: `model.layers.${i}.self_attn.o_proj.weight`, shape: [HIDDEN, HIDDEN], std: residual },
    { name: `model.layers.${i}.post_attention_layernorm.weight`, shape: [HIDDEN], std: 0 },
    { name: `model.layers.${i}.mlp.gate_proj.weight`, shape: [INTERMEDIATE, HIDDEN], std: INIT_STD },
    { name: `model.layers.${i}.mlp.up_proj.weight`, shape: [INTERMEDIATE, HIDDEN], std: INIT_STD },
    { name: `model.layers.${i}.mlp.down_proj.weight`, shape: [HIDDEN, INTERMEDIATE], std: residual },
  ];
  return [
    { name: 'model.embed_tokens.weight', shape: [VOCAB_SIZE, HIDDEN], std: INIT_STD },
    ...Array.from({ length: LAYERS }, (_, i) => layer(i)).flat(),
    { name: 'model.norm.weight', shape: [HIDDEN], std: 0 },
  ];
}

/** Writes config.json and random weights (float32) beside the tokenizer. */
export async function writeInit(): Promise<void> {
  let parameters = 0;
  const entries = tensors().map(({ name, shape, std }) => {
    const length = shape.reduce((a, b) => a * b, 1);
    parameters += length;
    const data = () => {
      const rng = new Rng(SEED, `init ${name}`);
      return new Uint8Array(Float32Array.from({ length }, () => (std === 0 ? 1 : std * rng.normal())).buffer);
    };
    return { name, dtype: 'F32' as const, shape, data };
  });
  await writeFileAtomic(join(INIT_FOLDER, 'config.json'), `${JSON.stringify(CONFIG, null, 2)}\n`);
  await writeSafetensors(join(INIT_FOLDER, 'model.safetensors'), entries, { format: 'pt' });
  console.log(`${INIT_FOLDER}: ${parameters} parameters, ${(parameters * 2e-6).toFixed(2)} MB in float16`);
}
