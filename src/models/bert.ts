import * as z from 'zod';
import { mulDims } from '../base/dims.js';
import { UserError } from '../base/errors.js';
import { checkJson } from '../formats/io/json.js';
import { add, reshape, tanh } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type Architecture, ENCODER_STREAM, type Network, type NetworkNames } from './architecture.js';
import { type Activation, activationOf } from './blocks/activation.js';
import { attend, byHead } from './blocks/attention.js';
import { layerNormed } from './blocks/norm.js';
import { bertLayerNames, postNormLayer } from './blocks/postNorm.js';
import { linearHead, type TaskHead } from './blocks/taskHead.js';
import { headSize, layerCount, size } from './configKeys.js';
import { refuseForeignWeights } from './foreignWeights.js';
import type { ModelConfig, Role, Sites, Stream } from './model.js';

/** BERT and its kind: an encoder with learned positions, types of tokens, and norms behind each block. */
export interface BertConfig extends ModelConfig {
  eps: number;
  activation: Activation;
  /** Rows of the embedding of positions, and which of them a sequence begins at. */
  positions: number;
  firstPosition: number;
  types: number;
}

const MODES = 'as an encoder alone, expected false';

export const bertKeys = z.looseObject({
  vocab_size: size.default(30_522),
  hidden_size: size.default(768),
  num_hidden_layers: layerCount.default(12),
  num_attention_heads: size.default(12),
  intermediate_size: size.default(3072),
  hidden_act: z.string().default('gelu'),
  max_position_embeddings: size.default(512),
  type_vocab_size: size.default(2),
  layer_norm_eps: z.number().nonnegative().default(1e-12),
  is_decoder: z.literal(false, { error: `such a model is supported ${MODES}` }).default(false),
  position_embedding_type: z
    .literal('absolute', { error: 'relative positions are not supported, expected "absolute"' })
    .default('absolute'),
});

/** A configuration by checked keys. Rows begin at position `firstPosition`. Throws UserError where the keys do not fit. */
export function bertConfig(
  modelType: string,
  place: string,
  c: z.output<typeof bertKeys>,
  firstPosition: number,
): BertConfig {
  const { hidden_size, num_attention_heads: heads, max_position_embeddings: positions } = c;
  if (positions <= firstPosition) {
    throw new UserError(
      `${place}: key "max_position_embeddings": of ${positions} positions none is left behind the ${firstPosition} of padding`,
    );
  }
  return {
    modelType,
    vocabSize: c.vocab_size,
    hiddenSize: hidden_size,
    intermediateSize: c.intermediate_size,
    layers: c.num_hidden_layers,
    heads,
    kvHeads: heads,
    headDim: headSize(place, { hidden_size, num_attention_heads: heads }),
    maxPositions: positions - firstPosition,
    tieWordEmbeddings: false,
    pooler: true,
    eps: c.layer_norm_eps,
    activation: activationOf(place, 'hidden_act', c.hidden_act),
    positions,
    firstPosition,
    types: c.type_vocab_size,
  };
}

export const bert: Architecture<BertConfig> = {
  modelType: 'bert',
  parse(place, config) {
    refuseForeignWeights(place, config);
    return bertConfig('bert', place, checkJson(place, config, bertKeys), 0);
  },
  network: (c) => bertNetwork(c, 'bert.', /^cls\./),
};

/**
 * A network of BERT's kind, whose checkpoints have `prefix` before its names and a head named as `others` says. Rows are
 * told by the pooler and a layer behind it, unless it has another head for them.
 */
export function bertNetwork(
  c: BertConfig,
  prefix: string,
  others: RegExp,
  sequenceHead?: (shape: { in: number; out: number }) => TaskHead,
): Network {
  const names = {
    prefix,
    layers: `${prefix}encoder.layer.`,
    embedding: `${prefix}embeddings.word_embeddings`,
    pooler: `${prefix}pooler.dense`,
    others,
  };
  const { hiddenSize: d } = c;
  const pooler = (sites: Sites, first: Tensor) =>
    tanh(sites.linear(names.pooler, first, { in: d, out: d, bias: true, role: 'pooler' }));
  return {
    config: c,
    stream: { ...ENCODER_STREAM, windows: [null], types: c.types, firstPosition: c.firstPosition },
    cache: { layers: c.layers, kvHeads: c.heads, headDim: c.headDim },
    names,
    forward: (sites, stream, boundary) => forward(c, names, sites, stream, boundary),
    ...(c.pooler && { pooler }),
    heads(kind, out) {
      const shape = { in: d, out };
      if (kind === 'token') return linearHead('classifier', shape, 'each');
      return sequenceHead?.(shape) ?? linearHead('classifier', shape, 'first', pooler);
    },
  };
}

function forward(
  c: BertConfig,
  { prefix, layers, embedding }: NetworkNames,
  sites: Sites,
  stream: Stream,
  boundary: (x: Tensor) => void = () => {},
): Tensor {
  const [batch, seq] = stream.ids.shape;
  const { hiddenSize: d } = c;
  const looked = (name: string, ids: Tensor, rows: number, role: Role) =>
    sites.embedding(name, ids, { in: rows, out: d, role });
  const words = looked(embedding, stream.ids, c.vocabSize, 'embedding');
  const places = looked(
    `${prefix}embeddings.position_embeddings`,
    stream.positions,
    c.positions,
    'positions',
  );
  const types = looked(`${prefix}embeddings.token_type_embeddings`, stream.typeIds!, c.types, 'types');
  const embedded = reshape(add(add(words, types), places), [mulDims(batch, seq), d]);
  let x = layerNormed(sites, `${prefix}embeddings.LayerNorm`, embedded, d, c.eps);
  for (let layer = 0; layer < c.layers; layer++) {
    const at = `${layers}${layer}`;
    boundary(x);
    const [q, k, v] = (['query', 'key', 'value'] as const).map((name) => {
      const shape = { in: d, out: d, bias: true, layer, role: ATTENTION[name] };
      return byHead(sites.linear(`${at}.attention.self.${name}`, x, shape), [batch, seq], c.heads, c.headDim);
    });
    const scoring = { scale: c.headDim ** -0.5, softcap: null };
    const heads = attend(c, scoring, q, stream.masks[0], { k, v }, stream.cache?.past(layer));
    x = postNormLayer(sites, c, layer, bertLayerNames(at), x, heads);
  }
  boundary(x);
  return x;
}

const ATTENTION = { query: 'attention.q', key: 'attention.k', value: 'attention.v' } as const;
