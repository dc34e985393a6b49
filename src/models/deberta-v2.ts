import * as z from 'zod';
import { mulDims } from '../base/dims.js';
import { UserError } from '../base/errors.js';
import { f32 } from '../base/tensor.js';
import { checkJson } from '../formats/io/json.js';
import {
  add,
  concat,
  constant,
  expandTo,
  gather,
  gatherElements,
  matmul,
  reshape,
  transpose,
} from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type Architecture, type Distances, ENCODER_STREAM, type Network } from './architecture.js';
import { ACTIVATIONS, type Activation, activationOf } from './blocks/activation.js';
import { attend, byHead } from './blocks/attention.js';
import { layerNormed } from './blocks/norm.js';
import { bertLayerNames, postNormLayer } from './blocks/postNorm.js';
import { headLayer, linearHead } from './blocks/taskHead.js';
import { headSize, layerCount, size } from './configKeys.js';
import { refuseForeignWeights } from './foreignWeights.js';
import type { ModelConfig, Sites, Stream } from './model.js';

/** DeBERTa v2 and v3 (He et al., arXiv:2006.03654 and 2111.09543): scores of content and of distance apart. */
export interface DebertaConfig extends ModelConfig {
  eps: number;
  activation: Activation;
  /** Of the layer before a task's. */
  poolerActivation: Activation;
  /** Rows of an embedding of positions that is added to the words'; 0: there is none. */
  positions: number;
  types: number;
  /** Absent where attention knows of no distances. */
  distances?: Distances & {
    /** Whether the embeddings of distances are normed. */
    norm: boolean;
    /** Whether they go through the projections of queries and keys themselves. */
    shared: boolean;
  };
  /** What scores there are beside those of content: of a query's with distances, of distances with a key's. */
  c2p: boolean;
  p2c: boolean;
  /** Of v2, a convolution beside the first layer. */
  convolution?: { width: number; activation: Activation };
}

const schema = z.looseObject({
  vocab_size: size.default(128_100),
  hidden_size: size.default(1536),
  num_hidden_layers: layerCount.default(24),
  num_attention_heads: size.default(24),
  intermediate_size: size.default(6144),
  hidden_act: z.string().default('gelu'),
  pooler_hidden_act: z.string().default('gelu'),
  max_position_embeddings: size.default(512),
  type_vocab_size: z.int().nonnegative().default(0),
  layer_norm_eps: z.number().nonnegative().default(1e-7),
  relative_attention: z.boolean().default(false),
  max_relative_positions: z.int().default(-1),
  position_buckets: z.int().default(-1),
  position_biased_input: z.boolean().default(true),
  pos_att_type: z.union([z.string(), z.array(z.string())]).nullish(),
  share_att_key: z.boolean().default(false),
  norm_rel_ebd: z.string().default('none'),
  conv_kernel_size: z.int().nonnegative().default(0),
  conv_groups: z.literal(1, 'convolutions in groups are not supported, expected 1').default(1),
  conv_act: z.string().default('tanh'),
  embedding_size: size.optional(),
  attention_head_size: size.optional(),
});

export const deberta_v2: Architecture<DebertaConfig> = {
  modelType: 'deberta-v2',
  parse(place, config) {
    refuseForeignWeights(place, config);
    const c = checkJson(place, config, schema);
    const { hidden_size, num_attention_heads: heads, conv_kernel_size: width } = c;
    const headDim = headSize(place, { hidden_size, num_attention_heads: heads });
    const refuseOther = (key: 'embedding_size' | 'attention_head_size', expected: number) => {
      if (c[key] === undefined || c[key] === expected) return;
      throw new UserError(`${place}: key "${key}": another size than ${expected} is not supported`);
    };
    refuseOther('embedding_size', hidden_size);
    refuseOther('attention_head_size', headDim);
    if (width > 0 && width % 2 === 0)
      throw new UserError(`${place}: key "conv_kernel_size": ${width} is even, expected an odd width`);
    const ways =
      typeof c.pos_att_type === 'string' ? c.pos_att_type.toLowerCase().split('|') : c.pos_att_type;
    const has = (way: string) => ways?.some((text) => text.trim() === way) ?? false;
    return {
      modelType: 'deberta-v2',
      vocabSize: c.vocab_size,
      hiddenSize: hidden_size,
      intermediateSize: c.intermediate_size,
      layers: c.num_hidden_layers,
      heads,
      kvHeads: heads,
      headDim,
      maxPositions: c.max_position_embeddings,
      tieWordEmbeddings: false,
      eps: c.layer_norm_eps,
      activation: activationOf(place, 'hidden_act', c.hidden_act),
      poolerActivation: activationOf(place, 'pooler_hidden_act', c.pooler_hidden_act),
      positions: c.position_biased_input ? c.max_position_embeddings : 0,
      types: c.type_vocab_size,
      ...(c.relative_attention && { distances: distancesOf(c) }),
      c2p: has('c2p'),
      p2c: has('p2c'),
      ...(width > 0 && { convolution: { width, activation: activationOf(place, 'conv_act', c.conv_act) } }),
    };
  },
  network,
};

function distancesOf(c: z.output<typeof schema>): NonNullable<DebertaConfig['distances']> {
  const furthest = c.max_relative_positions > 0 ? c.max_relative_positions : c.max_position_embeddings;
  const isLogarithmic = c.position_buckets > 0;
  return {
    span: isLogarithmic ? c.position_buckets : furthest,
    furthest: isLogarithmic ? furthest : null,
    norm: c.norm_rel_ebd
      .toLowerCase()
      .split('|')
      .some((text) => text.trim() === 'layer_norm'),
    shared: c.share_att_key,
  };
}

const NAMES = {
  prefix: 'deberta.',
  layers: 'deberta.encoder.layer.',
  embedding: 'deberta.embeddings.word_embeddings',
  others: /^(cls|lm_predictions|mask_predictions)\./,
};

function network(c: DebertaConfig): Network {
  return {
    config: c,
    stream: {
      ...ENCODER_STREAM,
      windows: [null],
      types: c.types,
      firstPosition: c.positions > 0 ? 0 : null,
      ...(c.distances && (c.c2p || c.p2c) && { distances: c.distances }),
      ...(c.convolution && { neighbours: c.convolution.width }),
    },
    // Scores need the distance of each key, and keys from before the sequence have none.
    cache: null,
    names: NAMES,
    forward: (sites, stream, boundary) => forward(c, sites, stream, boundary),
    heads(kind, out) {
      const shape = { in: c.hiddenSize, out };
      if (kind === 'token') return linearHead('classifier', shape, 'each');
      return linearHead('classifier', shape, 'first', (sites, first) =>
        ACTIVATIONS[c.poolerActivation](headLayer(sites, 'pooler.dense', first, c.hiddenSize)),
      );
    },
  };
}

function forward(
  c: DebertaConfig,
  sites: Sites,
  stream: Stream,
  boundary: (x: Tensor) => void = () => {},
): Tensor {
  const [batch, seq] = stream.ids.shape;
  const { hiddenSize: d } = c;
  const norm = (name: string, x: Tensor) => layerNormed(sites, name, x, d, c.eps);
  let words = sites.embedding(NAMES.embedding, stream.ids, { in: c.vocabSize, out: d, role: 'embedding' });
  const at = 'deberta.embeddings';
  if (c.positions > 0) {
    const shape = { in: c.positions, out: d, role: 'positions' } as const;
    words = add(words, sites.embedding(`${at}.position_embeddings`, stream.positions, shape));
  }
  if (c.types > 0) {
    const shape = { in: c.types, out: d, role: 'types' } as const;
    words = add(words, sites.embedding(`${at}.token_type_embeddings`, stream.typeIds!, shape));
  }
  const embedded = norm(`${at}.LayerNorm`, reshape(words, [mulDims(batch, seq), d]));
  const distances = distanceTable(c, sites, stream);
  let x = embedded;
  for (let layer = 0; layer < c.layers; layer++) {
    boundary(x);
    const heads = attention(c, sites, stream, layer, x, distances);
    x = postNormLayer(sites, c, layer, bertLayerNames(`${NAMES.layers}${layer}`), x, heads);
    if (layer === 0 && c.convolution)
      x = norm('deberta.encoder.conv.LayerNorm', add(x, convolved(c, sites, stream, embedded)));
  }
  boundary(x);
  return x;
}

interface DistanceTable {
  /** Embeddings of distances, [2·span, hidden]. */
  rows: Tensor;
  /** int32 [batch, heads, seq, seq]: which of them stands for a query's distance from a key. */
  index: Tensor;
}

/** What all layers need of distances; undefined where no score is of them. */
function distanceTable(c: DebertaConfig, sites: Sites, stream: Stream): DistanceTable | undefined {
  const { distances, hiddenSize: d, heads, eps } = c;
  const table = distances && sites.param('deberta.encoder.rel_embeddings.weight', [2 * distances.span, d]);
  const rows =
    table && distances.norm ? layerNormed(sites, 'deberta.encoder.LayerNorm', table, d, eps) : table;
  if (!rows || !stream.distances) return undefined;
  // Scores have this shape; values are of no matter.
  const [mask] = stream.masks;
  const each = constant(f32(new Float32Array(heads), [1, heads, 1, 1]));
  const like = add(add(mask, transpose(mask, [0, 1, 3, 2])), each);
  const [seq] = stream.distances.shape;
  return { rows, index: expandTo(reshape(stream.distances, [1, 1, seq, seq]), like) };
}

/** What heads make of x, [batch·seq, hidden]. */
function attention(
  c: DebertaConfig,
  sites: Sites,
  { ids, masks }: Stream,
  layer: number,
  x: Tensor,
  distances: DistanceTable | undefined,
): Tensor {
  const at = `${NAMES.layers}${layer}.attention.self`;
  const [batch, seq] = ids.shape;
  const { hiddenSize: d, heads, headDim } = c;
  const shape = { in: d, out: d, bias: true, layer } as const;
  const projected = (name: 'query' | 'key' | 'value', y: Tensor) =>
    sites.linear(`${at}.${name}_proj`, y, { ...shape, role: ATTENTION[name] });
  const [q, k, v] = (['query', 'key', 'value'] as const).map((name) =>
    byHead(projected(name, x), [batch, seq], heads, headDim),
  );
  const scale = (headDim * (1 + Number(c.c2p) + Number(c.p2c))) ** -0.5;
  let mask = masks[0];
  if (distances) {
    const { shared, span } = c.distances!;
    const rowsOf = (name: 'query' | 'key') => {
      const { rows } = distances;
      const role = name === 'key' ? 'attention.pos_k' : 'attention.pos_q';
      const y = shared
        ? projected(name, rows)
        : sites.linear(`${at}.pos_${name}_proj`, rows, { ...shape, role });
      return byHead(y, [1, 2 * span], heads, headDim);
    };
    const scores = (y: Tensor, name: 'query' | 'key', index: Tensor) =>
      gatherElements(matmul(y, rowsOf(name), { transB: true, alpha: scale }), index);
    if (c.c2p) mask = add(mask, scores(q, 'key', distances.index));
    // A key's with the distance of the query from it, keys first.
    const turned = (y: Tensor) => transpose(y, [0, 1, 3, 2]);
    if (c.p2c) mask = add(mask, turned(scores(k, 'query', turned(distances.index))));
  }
  return attend(c, { scale, softcap: null }, q, mask, { k, v });
}

const ATTENTION = { query: 'attention.q', key: 'attention.k', value: 'attention.v' } as const;

/** A convolution over rows of x, [batch·seq, hidden], which sees nothing beyond their ends. */
function convolved(c: DebertaConfig, sites: Sites, { ids, neighbours }: Stream, x: Tensor): Tensor {
  const { hiddenSize: d } = c;
  const { width, activation } = c.convolution!;
  const at = 'deberta.encoder.conv.conv';
  const nothing = constant(f32(new Float32Array(d), [1, d]));
  const around = gather(concat([x, nothing], 0), neighbours!);
  const kernel = transpose(sites.param(`${at}.weight`, [d, d, width]), [0, 2, 1]);
  const rows = reshape(around, [mulDims(...ids.shape), width * d]);
  const y = matmul(rows, reshape(kernel, [d, width * d]), { transB: true });
  return ACTIVATIONS[activation](add(y, sites.param(`${at}.bias`, [d])));
}
