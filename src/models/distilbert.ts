import * as z from 'zod';
import { mulDims } from '../base/dims.js';
import { checkJson } from '../formats/io/json.js';
import { add, relu, reshape } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { type Architecture, ENCODER_STREAM, type Network } from './architecture.js';
import { type Activation, activationOf } from './blocks/activation.js';
import { attend, byHead } from './blocks/attention.js';
import { layerNormed } from './blocks/norm.js';
import { postNormLayer } from './blocks/postNorm.js';
import { headLayer, linearHead } from './blocks/taskHead.js';
import { headSize, layerCount, size } from './configKeys.js';
import { refuseForeignWeights } from './foreignWeights.js';
import type { ModelConfig, Sites, Stream } from './model.js';

/** DistilBERT: BERT without types of tokens and without a pooler. */
export interface DistilBertConfig extends ModelConfig {
  eps: number;
  activation: Activation;
}

const schema = z.looseObject({
  vocab_size: size.default(30_522),
  max_position_embeddings: size.default(512),
  n_layers: layerCount.default(6),
  n_heads: size.default(12),
  dim: size.default(768),
  hidden_dim: size.default(3072),
  activation: z.string().default('gelu'),
});

export const distilbert: Architecture<DistilBertConfig> = {
  modelType: 'distilbert',
  parse(place, config) {
    refuseForeignWeights(place, config);
    const c = checkJson(place, config, schema);
    return {
      modelType: 'distilbert',
      vocabSize: c.vocab_size,
      hiddenSize: c.dim,
      intermediateSize: c.hidden_dim,
      layers: c.n_layers,
      heads: c.n_heads,
      kvHeads: c.n_heads,
      headDim: headSize(place, { dim: c.dim, n_heads: c.n_heads }),
      maxPositions: c.max_position_embeddings,
      tieWordEmbeddings: false,
      // The class has no key for it.
      eps: 1e-12,
      activation: activationOf(place, 'activation', c.activation),
    };
  },
  network,
};

const NAMES = {
  prefix: 'distilbert.',
  layers: 'distilbert.transformer.layer.',
  embedding: 'distilbert.embeddings.word_embeddings',
  others: /^vocab_(transform|layer_norm|projector)\./,
};

function network(c: DistilBertConfig): Network {
  return {
    config: c,
    stream: { ...ENCODER_STREAM, windows: [null] },
    // Its class takes no keys and values from before the sequence.
    cache: null,
    names: NAMES,
    forward: (sites, stream, boundary) => forward(c, sites, stream, boundary),
    heads(kind, out) {
      const shape = { in: c.hiddenSize, out };
      if (kind === 'token') return linearHead('classifier', shape, 'each');
      return linearHead('classifier', shape, 'first', (sites, first) =>
        relu(headLayer(sites, 'pre_classifier', first, c.hiddenSize)),
      );
    },
  };
}

function forward(
  c: DistilBertConfig,
  sites: Sites,
  { ids, positions, masks }: Stream,
  boundary: (x: Tensor) => void = () => {},
): Tensor {
  const [batch, seq] = ids.shape;
  const { hiddenSize: d } = c;
  const words = sites.embedding(NAMES.embedding, ids, { in: c.vocabSize, out: d, role: 'embedding' });
  const places = sites.embedding('distilbert.embeddings.position_embeddings', positions, {
    in: c.maxPositions,
    out: d,
    role: 'positions',
  });
  const embedded = reshape(add(words, places), [mulDims(batch, seq), d]);
  let x = layerNormed(sites, 'distilbert.embeddings.LayerNorm', embedded, d, c.eps);
  for (let layer = 0; layer < c.layers; layer++) {
    const at = `${NAMES.layers}${layer}`;
    boundary(x);
    const [q, k, v] = (['q', 'k', 'v'] as const).map((name) => {
      const shape = { in: d, out: d, bias: true, layer, role: `attention.${name}` } as const;
      return byHead(sites.linear(`${at}.attention.${name}_lin`, x, shape), [batch, seq], c.heads, c.headDim);
    });
    const heads = attend(c, { scale: c.headDim ** -0.5, softcap: null }, q, masks[0], { k, v });
    const names = {
      o: `${at}.attention.out_lin`,
      attentionNorm: `${at}.sa_layer_norm`,
      up: `${at}.ffn.lin1`,
      down: `${at}.ffn.lin2`,
      outputNorm: `${at}.output_layer_norm`,
    };
    x = postNormLayer(sites, c, layer, names, x, heads);
  }
  boundary(x);
  return x;
}
