import * as z from 'zod';
import { mulDims } from '../base/dims.js';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import { add, mul, reshape, split } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type Architecture, ENCODER_STREAM, type Network } from './architecture.js';
import { ACTIVATIONS, type Activation, activationOf } from './blocks/activation.js';
import { attend, byHead, rotated } from './blocks/attention.js';
import { layerNormed } from './blocks/norm.js';
import { headLayer, linearHead } from './blocks/taskHead.js';
import { headSize, layerCount, size } from './configKeys.js';
import { refuseForeignWeights } from './foreignWeights.js';
import type { ModelConfig, RopeConfig, Sites, Stream } from './model.js';
import { type RopeParameters, ropeKeys, ropeOf } from './ropeConfig.js';

/** ModernBERT: norms before the blocks, gated MLPs, rotary embeddings, windows to both sides on most layers. */
export interface ModernBertConfig extends ModelConfig {
  eps: number;
  activation: Activation;
  bias: { norm: boolean; attention: boolean; mlp: boolean };
  /** The head of a task: what its rows are told by, and the layer before its last. */
  classifier: { pooling: 'cls' | 'mean'; activation: Activation; bias: boolean };
  /** Of layers that see all, and of those that see a window. */
  ropes: readonly [RopeConfig, RopeConfig];
  /** Positions to either side that a window has, itself included. */
  window: number;
  /** Of each layer: does it see a window? */
  sliding: readonly boolean[];
}

const [FULL, SLIDING] = ['full_attention', 'sliding_attention'] as const;
const { rope_scaling, rope_parameters } = ropeKeys;
const theta = z.number().positive();
const byKind = z.object({ [FULL]: rope_parameters, [SLIDING]: rope_parameters });
const toggle = z.boolean().default(false);

const schema = z.looseObject({
  vocab_size: size.default(50_368),
  hidden_size: size.default(768),
  intermediate_size: size.default(1152),
  num_hidden_layers: layerCount.default(22),
  num_attention_heads: size.default(12),
  hidden_activation: z.string().default('gelu'),
  max_position_embeddings: size.default(8192),
  norm_eps: z.number().nonnegative().default(1e-5),
  norm_bias: toggle,
  attention_bias: toggle,
  mlp_bias: toggle,
  classifier_pooling: z.enum(['cls', 'mean']).default('cls'),
  classifier_activation: z.string().default('gelu'),
  classifier_bias: toggle,
  local_attention: size.default(128),
  layer_types: z.array(z.enum([FULL, SLIDING])).nullish(),
  global_attn_every_n_layers: size.default(3),
  rope_scaling,
  rope_parameters: byKind.nullish(),
  global_rope_theta: theta.default(160_000),
  local_rope_theta: theta.default(10_000),
});

export const modernbert: Architecture<ModernBertConfig> = {
  modelType: 'modernbert',
  parse(place, config) {
    refuseForeignWeights(place, config);
    const c = checkJson(place, config, schema);
    const { hidden_size, num_attention_heads: heads, num_hidden_layers: layers, layer_types: types } = c;
    if (types && types.length !== layers) {
      throw new UserError(
        `${place}: key "layer_types" has ${types.length} entries, and num_hidden_layers is ${layers}`,
      );
    }
    const headDim = headSize(place, { hidden_size, num_attention_heads: heads });
    const rope = (kind: typeof FULL | typeof SLIDING, rope_theta: number): RopeConfig => {
      const given: RopeParameters = { ...c.rope_parameters?.[kind], ...c.rope_scaling };
      const defaults = { rope_theta, max_position_embeddings: c.max_position_embeddings };
      return ropeOf(`${place}: key "rope_parameters.${kind}`, given, {}, defaults, headDim);
    };
    return {
      modelType: 'modernbert',
      vocabSize: c.vocab_size,
      hiddenSize: hidden_size,
      intermediateSize: c.intermediate_size,
      layers,
      heads,
      kvHeads: heads,
      headDim,
      maxPositions: c.max_position_embeddings,
      tieWordEmbeddings: false,
      eps: c.norm_eps,
      activation: activationOf(place, 'hidden_activation', c.hidden_activation),
      bias: { norm: c.norm_bias, attention: c.attention_bias, mlp: c.mlp_bias },
      classifier: {
        pooling: c.classifier_pooling,
        activation: activationOf(place, 'classifier_activation', c.classifier_activation),
        bias: c.classifier_bias,
      },
      ropes: [rope(FULL, c.global_rope_theta), rope(SLIDING, c.local_rope_theta)],
      window: Math.floor(c.local_attention / 2) + 1,
      sliding: Array.from({ length: layers }, (_, i) =>
        types ? types[i] === SLIDING : i % c.global_attn_every_n_layers !== 0,
      ),
    };
  },
  network,
};

const NAMES = {
  prefix: 'model.',
  layers: 'model.layers.',
  embedding: 'model.embeddings.tok_embeddings',
  others: /^(head|decoder)\./,
};

function network(c: ModernBertConfig): Network {
  return {
    config: c,
    stream: { ...ENCODER_STREAM, windows: [null, c.window], ropes: c.ropes },
    // Its class takes no keys and values from before the sequence.
    cache: null,
    names: NAMES,
    forward: (sites, stream, boundary) => forward(c, sites, stream, boundary),
    heads(kind, out) {
      const { activation, bias, pooling } = c.classifier;
      const before = (sites: Sites, x: Tensor) => {
        const turned = ACTIVATIONS[activation](headLayer(sites, 'head.dense', x, c.hiddenSize, bias));
        return layerNormed(sites, 'head.norm', turned, c.hiddenSize, c.eps, { bias: c.bias.norm });
      };
      const reads = pooling === 'cls' ? 'first' : 'mean';
      return linearHead('classifier', { in: c.hiddenSize, out }, kind === 'token' ? 'each' : reads, before);
    },
  };
}

function forward(
  c: ModernBertConfig,
  sites: Sites,
  stream: Stream,
  boundary: (x: Tensor) => void = () => {},
): Tensor {
  const { ids } = stream;
  const { hiddenSize: d, intermediateSize: wide } = c;
  const norm = (name: string, x: Tensor) => layerNormed(sites, name, x, d, c.eps, { bias: c.bias.norm });
  const words = sites.embedding(NAMES.embedding, ids, { in: c.vocabSize, out: d, role: 'embedding' });
  let x = norm('model.embeddings.norm', reshape(words, [mulDims(...ids.shape), d]));
  for (let layer = 0; layer < c.layers; layer++) {
    const at = `${NAMES.layers}${layer}`;
    boundary(x);
    x = add(x, attention(c, sites, stream, layer, layer === 0 ? x : norm(`${at}.attn_norm`, x)));
    const shape = { bias: c.bias.mlp, layer };
    const both = sites.linear(`${at}.mlp.Wi`, norm(`${at}.mlp_norm`, x), {
      ...shape,
      in: d,
      out: 2 * wide,
      role: 'mlp.gate_up',
    });
    const [gate, up] = split(both, 1, [wide, wide]);
    const inner = mul(ACTIVATIONS[c.activation](gate), up);
    x = add(x, sites.linear(`${at}.mlp.Wo`, inner, { ...shape, in: wide, out: d, role: 'mlp.down' }));
  }
  boundary(x);
  return norm('model.final_norm', x);
}

/** Attention of a layer. x: [batch·seq, hidden]. */
function attention(c: ModernBertConfig, sites: Sites, s: Stream, layer: number, x: Tensor): Tensor {
  const at = `${NAMES.layers}${layer}.attn`;
  const { hiddenSize: d } = c;
  const kind = c.sliding[layer] ? 1 : 0;
  const [batch, seq] = s.ids.shape;
  const shape = { in: d, bias: c.bias.attention, layer };
  const qkv = sites.linear(`${at}.Wqkv`, x, { ...shape, out: 3 * d, role: 'attention.qkv' });
  const [q, k, v] = split(qkv, 1, [d, d, d]).map((rows) => byHead(rows, [batch, seq], c.heads, c.headDim));
  const turned = (y: Tensor) => rotated(y, s.positions, s.rotaries[kind], c.ropes[kind].dim);
  const scoring = { scale: c.headDim ** -0.5, softcap: null };
  const heads = attend(c, scoring, turned(q), s.masks[kind], { k: turned(k), v });
  return sites.linear(`${at}.Wo`, heads, { ...shape, out: d, role: 'attention.o' });
}
