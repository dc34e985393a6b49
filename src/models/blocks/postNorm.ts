/** A layer of BERT's kind: behind attention and behind the MLP what went in is added, and the sum normed. */
import { add } from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';
import type { Sites } from '../model.js';
import { ACTIVATIONS, type Activation } from './activation.js';
import { layerNormed } from './norm.js';

export interface PostNormSizes {
  hiddenSize: number;
  intermediateSize: number;
  eps: number;
  activation: Activation;
}

/** Checkpoint names of a layer's parts. */
export interface PostNormNames {
  o: string;
  attentionNorm: string;
  up: string;
  down: string;
  outputNorm: string;
}

/** What a layer makes of its input x and of what its heads made of that. All are [tokens, hidden]. */
export function postNormLayer(
  sites: Sites,
  c: PostNormSizes,
  layer: number,
  names: PostNormNames,
  x: Tensor,
  heads: Tensor,
): Tensor {
  const { hiddenSize: d, intermediateSize: wide, eps } = c;
  const shape = { bias: true, layer };
  const o = sites.linear(names.o, heads, { ...shape, in: d, out: d, role: 'attention.o' });
  const y = layerNormed(sites, names.attentionNorm, add(o, x), d, eps);
  const up = sites.linear(names.up, y, { ...shape, in: d, out: wide, role: 'mlp.up' });
  const inner = ACTIVATIONS[c.activation](up);
  const down = sites.linear(names.down, inner, { ...shape, in: wide, out: d, role: 'mlp.down' });
  return layerNormed(sites, names.outputNorm, add(down, y), d, eps);
}

/** Names that BERT and its nearest have in common, of the layer at `at`. */
export function bertLayerNames(at: string): PostNormNames {
  return {
    o: `${at}.attention.output.dense`,
    attentionNorm: `${at}.attention.output.LayerNorm`,
    up: `${at}.intermediate.dense`,
    down: `${at}.output.dense`,
    outputNorm: `${at}.output.LayerNorm`,
  };
}
