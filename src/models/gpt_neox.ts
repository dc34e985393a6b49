import * as z from 'zod';
import { mulDims } from '../base/dims.js';
import { rowsByKind } from '../formats/gguf/rows.js';
import { checkJson } from '../formats/io/json.js';
import { add, reshape, split, transpose } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type Architecture, DECODER_STREAM, type Network } from './architecture.js';
import { ACTIVATIONS, type Activation, activationOf } from './blocks/activation.js';
import { attend, rotated } from './blocks/attention.js';
import { vocabularyLogits } from './blocks/head.js';
import { layerNormed } from './blocks/norm.js';
import { scoreHead } from './blocks/taskHead.js';
import { headSize, layerCount, size } from './configKeys.js';
import { refuseForeignWeights } from './foreignWeights.js';
import { sizeKeys } from './gguf/form.js';
import { ropeKeysOf } from './gguf/rope.js';
import type { ModelConfig, NormPlace, RopeConfig, Sites, Stream } from './model.js';
import { parseRope, ropeKeys } from './ropeConfig.js';

/** GPT-NeoX, Pythia: attention and MLP side by side on one input, a part of each head rotated. */
export interface GptNeoxConfig extends ModelConfig {
  eps: number;
  bias: boolean;
  activation: Activation;
  rope: RopeConfig;
  /** Whether attention and MLP see the same input; else the MLP sees what attention made of it. */
  parallel: boolean;
}

const schema = z.looseObject({
  vocab_size: size.default(50_432),
  hidden_size: size.default(6144),
  intermediate_size: size.default(24_576),
  num_hidden_layers: layerCount.default(44),
  num_attention_heads: size.default(64),
  hidden_act: z.string().default('gelu'),
  max_position_embeddings: size.default(2048),
  layer_norm_eps: z.number().nonnegative().default(1e-5),
  tie_word_embeddings: z.boolean().default(false),
  use_parallel_residual: z.boolean().default(true),
  attention_bias: z.boolean().default(true),
  rotary_emb_base: z.number().positive().optional(),
  rotary_pct: z.number().positive().max(1).optional(),
  ...ropeKeys,
});

export const gpt_neox: Architecture<GptNeoxConfig> = {
  modelType: 'gpt_neox',
  parse(place, config) {
    refuseForeignWeights(place, config);
    const c = checkJson(place, config, schema);
    const headDim = headSize(place, {
      hidden_size: c.hidden_size,
      num_attention_heads: c.num_attention_heads,
    });
    const beside = { ...c, partial_rotary_factor: c.partial_rotary_factor ?? c.rotary_pct ?? 0.25 };
    const defaults = {
      rope_theta: c.rotary_emb_base ?? 10_000,
      max_position_embeddings: c.max_position_embeddings,
      partial: true,
    };
    return {
      modelType: 'gpt_neox',
      vocabSize: c.vocab_size,
      hiddenSize: c.hidden_size,
      intermediateSize: c.intermediate_size,
      layers: c.num_hidden_layers,
      heads: c.num_attention_heads,
      kvHeads: c.num_attention_heads,
      headDim,
      maxPositions: c.max_position_embeddings,
      tieWordEmbeddings: c.tie_word_embeddings,
      eps: c.layer_norm_eps,
      bias: c.attention_bias,
      activation: activationOf(place, 'hidden_act', c.hidden_act),
      rope: parseRope(place, beside, defaults, headDim),
      parallel: c.use_parallel_residual,
    };
  },
  network,
  gguf: {
    name: 'gptneox',
    className: 'GPTNeoXForCausalLM',
    factors: [],
    hasWindows: false,
    head: 'own',
    keys: [
      ...sizeKeys({
        positions: 'max_position_embeddings',
        hidden: 'hidden_size',
        inner: 'intermediate_size',
        layers: 'num_hidden_layers',
        heads: 'num_attention_heads',
      }),
      { key: 'attention.layer_norm_epsilon', hf: 'layer_norm_eps', type: 'float32', value: (c) => c.eps },
      {
        key: 'use_parallel_residual',
        hf: 'use_parallel_residual',
        type: 'bool',
        value: (c) => c.parallel,
        absent: () => true,
      },
    ],
    // Queries of all heads, then keys, then values.
    rows: (c, role) => (role === 'attention.qkv' ? rowsByKind(c.heads, c.headDim) : undefined),
    async rest(file, read) {
      const headDim = Number(read.hidden_size) / Number(read.num_attention_heads);
      const dim = file.meta.count(`${file.name}.rope.dimension_count`, headDim);
      return {
        hidden_act: 'gelu',
        ...(await ropeKeysOf(file, { positions: Number(read.max_position_embeddings), dim })),
        partial_rotary_factor: dim / headDim,
      };
    },
  },
};

const NAMES = {
  prefix: 'gpt_neox.',
  layers: 'gpt_neox.layers.',
  head: 'embed_out',
  embedding: 'gpt_neox.embed_in',
};

function network(c: GptNeoxConfig): Network {
  return {
    config: c,
    stream: { ...DECODER_STREAM, groups: 1, windows: [null], ropes: [c.rope] },
    cache: { layers: c.layers, kvHeads: c.heads, headDim: c.headDim },
    names: NAMES,
    forward: (sites, stream, boundary) => forward(c, sites, stream, boundary),
    lmHead: (sites, hidden) => vocabularyLogits(c, NAMES, sites, hidden),
    heads: (kind, out) => scoreHead({ in: c.hiddenSize, out, bias: kind === 'token' }, kind, 'classifier'),
  };
}

function forward(
  c: GptNeoxConfig,
  sites: Sites,
  stream: Stream,
  boundary: (x: Tensor) => void = () => {},
): Tensor {
  const [batch, seq] = stream.ids.shape;
  const shape = { in: c.vocabSize, out: c.hiddenSize, role: 'embedding' } as const;
  const norm = (name: string, x: Tensor, place: NormPlace) =>
    layerNormed(sites, name, x, c.hiddenSize, c.eps, { place });
  let x = reshape(sites.embedding(NAMES.embedding, stream.ids, shape), [mulDims(batch, seq), c.hiddenSize]);
  for (let layer = 0; layer < c.layers; layer++) {
    const at = `${NAMES.layers}${layer}`;
    boundary(x);
    const attended = add(
      x,
      attention(c, sites, stream, layer, norm(`${at}.input_layernorm`, x, { role: 'attention.norm', layer })),
    );
    const seen = norm(`${at}.post_attention_layernorm`, c.parallel ? x : attended, {
      role: 'mlp.norm',
      layer,
    });
    x = add(attended, mlp(c, sites, layer, seen));
  }
  boundary(x);
  return norm('gpt_neox.final_layer_norm', x, { role: 'norm' });
}

/** The rows of its one matrix are q, k and v of the first head, then those of the next. */
function attention(c: GptNeoxConfig, sites: Sites, s: Stream, layer: number, x: Tensor): Tensor {
  const at = `${NAMES.layers}${layer}.attention`;
  const [batch, seq] = s.ids.shape;
  const wide = {
    in: c.hiddenSize,
    out: 3 * c.hiddenSize,
    bias: c.bias,
    layer,
    role: 'attention.qkv',
  } as const;
  const rows = reshape(sites.linear(`${at}.query_key_value`, x, wide), [batch, seq, c.heads, 3 * c.headDim]);
  const [q, k, v] = split(transpose(rows, [0, 2, 1, 3]), 3, [c.headDim, c.headDim, c.headDim]);
  const turned = (y: Tensor) => rotated(y, s.positions, s.rotaries[0], c.rope.dim);
  const added = { k: turned(k), v };
  const seen = s.cache?.present(layer, added) ?? added;
  const scoring = { scale: 1 / Math.sqrt(c.headDim), softcap: null };
  const heads = attend(c, scoring, turned(q), s.masks[0], seen, s.cache?.past(layer));
  const shape = { in: c.hiddenSize, out: c.hiddenSize, bias: c.bias, layer, role: 'attention.o' } as const;
  return sites.linear(`${at}.dense`, heads, shape);
}

function mlp(c: GptNeoxConfig, sites: Sites, layer: number, x: Tensor): Tensor {
  const at = `${NAMES.layers}${layer}.mlp`;
  const up = { in: c.hiddenSize, out: c.intermediateSize, bias: true, layer, role: 'mlp.up' } as const;
  const down = { in: c.intermediateSize, out: c.hiddenSize, bias: true, layer, role: 'mlp.down' } as const;
  const inner = ACTIVATIONS[c.activation](sites.linear(`${at}.dense_h_to_4h`, x, up));
  return sites.linear(`${at}.dense_4h_to_h`, inner, down);
}
