import * as z from 'zod';
import { mulDims } from '../base/dims.js';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import { add, reshape, split, transpose } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type Architecture, DECODER_STREAM, type Network } from './architecture.js';
import { ACTIVATIONS, type Activation, activationOf } from './blocks/activation.js';
import { attend } from './blocks/attention.js';
import { vocabularyLogits } from './blocks/head.js';
import { layerNormed } from './blocks/norm.js';
import { scoreHead } from './blocks/taskHead.js';
import { headSize, layerCount, size } from './configKeys.js';
import { refuseForeignWeights } from './foreignWeights.js';
import { sizeKeys } from './gguf/form.js';
import type { LinearShape, ModelConfig, NormPlace, Sites, Stream } from './model.js';

/** GPT-2: positions that are learned, one matrix for q, k and v, matrices stored as [in, out]. */
export interface Gpt2Config extends ModelConfig {
  eps: number;
  activation: Activation;
  /** Of scores, by layer. */
  scales: readonly number[];
}

const schema = z.looseObject({
  vocab_size: size.default(50_257),
  n_positions: size.default(1024),
  n_embd: size.default(768),
  n_layer: layerCount.default(12),
  n_head: size.default(12),
  n_inner: size.nullish(),
  activation_function: z.string().default('gelu_new'),
  layer_norm_epsilon: z.number().nonnegative().default(1e-5),
  scale_attn_weights: z.boolean().default(true),
  scale_attn_by_inverse_layer_idx: z.boolean().default(false),
  add_cross_attention: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(true),
});

export const gpt2: Architecture<Gpt2Config> = {
  modelType: 'gpt2',
  parse(place, config) {
    refuseForeignWeights(place, config);
    const c = checkJson(place, config, schema);
    if (c.add_cross_attention) {
      throw new UserError(`${place}: key "add_cross_attention": attention to an encoder is not supported`);
    }
    const headDim = headSize(place, { n_embd: c.n_embd, n_head: c.n_head });
    const scale = c.scale_attn_weights ? 1 / Math.sqrt(headDim) : 1;
    return {
      modelType: 'gpt2',
      vocabSize: c.vocab_size,
      hiddenSize: c.n_embd,
      intermediateSize: c.n_inner ?? 4 * c.n_embd,
      layers: c.n_layer,
      heads: c.n_head,
      kvHeads: c.n_head,
      headDim,
      maxPositions: c.n_positions,
      tieWordEmbeddings: c.tie_word_embeddings,
      eps: c.layer_norm_epsilon,
      activation: activationOf(place, 'activation_function', c.activation_function),
      scales: Array.from({ length: c.n_layer }, (_, layer) =>
        c.scale_attn_by_inverse_layer_idx ? scale / (layer + 1) : scale,
      ),
    };
  },
  network,
  gguf: {
    name: 'gpt2',
    className: 'GPT2LMHeadModel',
    factors: [],
    hasWindows: false,
    keys: [
      ...sizeKeys({
        positions: 'n_positions',
        hidden: 'n_embd',
        inner: 'n_inner',
        layers: 'n_layer',
        heads: 'n_head',
      }),
      { key: 'attention.layer_norm_epsilon', hf: 'layer_norm_epsilon', type: 'float32', value: (c) => c.eps },
    ],
    rest: async () => ({ activation_function: 'gelu_new' }),
  },
};

const NAMES = {
  prefix: 'transformer.',
  layers: 'transformer.h.',
  head: 'lm_head',
  embedding: 'transformer.wte',
};

function network(c: Gpt2Config): Network {
  return {
    config: c,
    stream: { ...DECODER_STREAM, groups: 1, windows: [null], ropes: [] },
    cache: { layers: c.layers, kvHeads: c.heads, headDim: c.headDim },
    names: NAMES,
    forward: (sites, stream, boundary) => forward(c, sites, stream, boundary),
    lmHead: (sites, hidden) => vocabularyLogits(c, NAMES, sites, hidden),
    heads: (kind, out) => scoreHead({ in: c.hiddenSize, out, bias: kind === 'token' }, kind, 'classifier'),
  };
}

function forward(
  c: Gpt2Config,
  sites: Sites,
  stream: Stream,
  boundary: (x: Tensor) => void = () => {},
): Tensor {
  const [batch, seq] = stream.ids.shape;
  const d = c.hiddenSize;
  const norm = (name: string, x: Tensor, place: NormPlace) =>
    layerNormed(sites, name, x, d, c.eps, { place });
  const conv = (name: string, x: Tensor, shape: Omit<LinearShape, 'bias' | 'layout'>) =>
    sites.linear(name, x, { ...shape, bias: true, layout: 'conv1d' });
  const words = sites.embedding(NAMES.embedding, stream.ids, { in: c.vocabSize, out: d, role: 'embedding' });
  const places = sites.embedding('transformer.wpe', stream.positions, {
    in: c.maxPositions,
    out: d,
    role: 'positions',
  });
  let x = reshape(add(words, places), [mulDims(batch, seq), d]);
  for (let layer = 0; layer < c.layers; layer++) {
    const at = `${NAMES.layers}${layer}`;
    boundary(x);
    const qkv = conv(`${at}.attn.c_attn`, norm(`${at}.ln_1`, x, { role: 'attention.norm', layer }), {
      in: d,
      out: 3 * d,
      layer,
      role: 'attention.qkv',
    });
    const heads = attention(c, stream, layer, qkv);
    x = add(x, conv(`${at}.attn.c_proj`, heads, { in: d, out: d, layer, role: 'attention.o' }));
    const { intermediateSize: wide } = c;
    const up = conv(`${at}.mlp.c_fc`, norm(`${at}.ln_2`, x, { role: 'mlp.norm', layer }), {
      in: d,
      out: wide,
      layer,
      role: 'mlp.up',
    });
    const inner = ACTIVATIONS[c.activation](up);
    x = add(x, conv(`${at}.mlp.c_proj`, inner, { in: wide, out: d, layer, role: 'mlp.down' }));
  }
  boundary(x);
  return norm('transformer.ln_f', x, { role: 'norm' });
}

/** What heads make of q, k and v side by side, [batch·seq, 3·hidden]. */
function attention(c: Gpt2Config, s: Stream, layer: number, qkv: Tensor): Tensor {
  const [batch, seq] = s.ids.shape;
  const d = c.hiddenSize;
  const [q, k, v] = split(qkv, 1, [d, d, d]).map((rows) =>
    transpose(reshape(rows, [batch, seq, c.heads, c.headDim]), [0, 2, 1, 3]),
  );
  const added = { k, v };
  const seen = s.cache?.present(layer, added) ?? added;
  const scoring = { scale: c.scales[layer], softcap: null };
  return attend(c, scoring, q, s.masks[0], seen, s.cache?.past(layer));
}
