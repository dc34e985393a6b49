import { mulDims } from '../base/dims.js';
import {
  add,
  concat,
  matmul,
  mul,
  reshape,
  rmsNorm,
  rope,
  silu,
  softmax,
  split,
  transpose,
} from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import type { Network, NetworkNames } from './architecture.js';
import type { DecoderConfig, KeyValue, Sites, Stream } from './model.js';

/** The network of a decoder of the Llama family. */
export function decoderNetwork(c: DecoderConfig): Network {
  return {
    config: c,
    stream: {
      groups: c.heads / c.kvHeads,
      windows: [c.slidingWindow],
      rotaries: [{ rope: c.rope, dim: c.headDim }],
    },
    cache: { layers: c.layers, kvHeads: c.kvHeads, headDim: c.headDim },
    names: NAMES,
    forward: (sites, stream, boundary) => forward(c, sites, stream, boundary),
    lmHead: (sites, hidden) => lmHead(c, sites, hidden),
  };
}

const NAMES: NetworkNames = {
  prefix: 'model.',
  layers: 'model.layers.',
  head: 'lm_head',
  embedding: 'model.embed_tokens',
};

/** Activations are kept as matrices [tokens, width], so that every product is one plain GEMM. */
function forward(
  c: DecoderConfig,
  sites: Sites,
  stream: Stream,
  boundary: (x: Tensor) => void = () => {},
): Tensor {
  const [batch, seq] = stream.ids.shape;
  const norm = (name: string, x: Tensor) =>
    rmsNorm(x, sites.param(`${name}.weight`, [c.hiddenSize]), c.rmsNormEps);

  const embedded = sites.embedding(NAMES.embedding, stream.ids, {
    in: c.vocabSize,
    out: c.hiddenSize,
    role: 'embedding',
  });
  let x = reshape(embedded, [mulDims(batch, seq), c.hiddenSize]);
  for (let layer = 0; layer < c.layers; layer++) {
    const at = `${NAMES.layers}${layer}`;
    boundary(x);
    x = add(x, attention(c, sites, stream, layer, norm(`${at}.input_layernorm`, x)));
    x = add(x, mlp(c, sites, layer, norm(`${at}.post_attention_layernorm`, x)));
  }
  boundary(x);
  return norm('model.norm', x);
}

function lmHead(c: DecoderConfig, sites: Sites, hidden: Tensor): Tensor {
  const shape = { in: c.hiddenSize, out: c.vocabSize, role: 'head' } as const;
  return c.tieWordEmbeddings
    ? sites.tiedLinear(NAMES.head, NAMES.embedding, hidden, shape)
    : sites.linear(NAMES.head, hidden, shape);
}

/** SwiGLU feed-forward (Shazeer, arXiv:2002.05202): down(silu(gate(x)) ∘ up(x)). */
function mlp(c: DecoderConfig, sites: Sites, layer: number, x: Tensor): Tensor {
  const at = `${NAMES.layers}${layer}.mlp`;
  const wide = { in: c.hiddenSize, out: c.intermediateSize, bias: c.bias.mlp, layer };
  const gate = sites.linear(`${at}.gate_proj`, x, { ...wide, role: 'mlp.gate' });
  const up = sites.linear(`${at}.up_proj`, x, { ...wide, role: 'mlp.up' });
  return sites.linear(`${at}.down_proj`, mul(silu(gate), up), {
    in: c.intermediateSize,
    out: c.hiddenSize,
    bias: c.bias.mlp,
    layer,
    role: 'mlp.down',
  });
}

/**
 * Grouped-query attention (Ainslie et al., arXiv:2305.13245). The query heads that share a key head are
 * stacked as rows, so that no key or value is ever repeated: q [batch, kv, groups·seq, d].
 */
function attention(c: DecoderConfig, sites: Sites, s: Stream, layer: number, x: Tensor): Tensor {
  const at = `${NAMES.layers}${layer}.self_attn`;
  const [batch, seq] = s.ids.shape;
  const groups = c.heads / c.kvHeads;
  const [{ cos, sin }] = s.rotaries;
  const project = (name: 'q' | 'k' | 'v', heads: number): Tensor => {
    const role = `attention.${name}` as const;
    const shape = { in: c.hiddenSize, out: heads * c.headDim, bias: c.bias.qkv, layer, role };
    let y = reshape(sites.linear(`${at}.${name}_proj`, x, shape), [batch, seq, heads, c.headDim]);
    if (c.qkNorm && name !== 'v') {
      y = rmsNorm(y, sites.param(`${at}.${name}_norm.weight`, [c.headDim]), c.rmsNormEps);
    }
    y = transpose(y, [0, 2, 1, 3]);
    return name === 'v' ? y : rope(y, s.positions, cos, sin);
  };

  const q = reshape(project('q', c.heads), [batch, c.kvHeads, mulDims(groups, seq), c.headDim]);
  const added: KeyValue = { k: project('k', c.kvHeads), v: project('v', c.kvHeads) };
  s.cache?.present(layer, added);
  const heads = attend(q, s.masks[0], 1 / Math.sqrt(c.headDim), added, s.cache?.past(layer));

  const rows = transpose(reshape(heads, [batch, c.heads, seq, c.headDim]), [0, 2, 1, 3]);
  const flat = reshape(rows, [mulDims(batch, seq), c.heads * c.headDim]);
  return sites.linear(`${at}.o_proj`, flat, {
    in: c.heads * c.headDim,
    out: c.hiddenSize,
    bias: c.bias.o,
    layer,
    role: 'attention.o',
  });
}

/**
 * softmax(scale·q·Kᵀ + mask)·V, where K and V are what the cache holds followed by what is new. Past and
 * new are multiplied apart, so the cache is read but never copied.
 */
function attend(q: Tensor, mask: Tensor, scale: number, added: KeyValue, past?: KeyValue): Tensor {
  const scores = (k: Tensor) => matmul(q, k, { transB: true, alpha: scale });
  if (!past) return matmul(softmax(add(scores(added.k), mask)), added.v);
  const sizes = [past.k.shape[2], added.k.shape[2]];
  const weights = softmax(add(concat([scores(past.k), scores(added.k)], 3), mask));
  const [before, now] = split(weights, 3, sizes);
  return add(matmul(before, past.v), matmul(now, added.v));
}
