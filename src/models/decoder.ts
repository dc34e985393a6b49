import { mulDims } from '../base/dims.js';
import { add, mul, reshape, rmsNorm, scalar, split, transpose } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';
import { DECODER_STREAM, type Network, type NetworkNames } from './architecture.js';
import { attend, capped, rotated } from './blocks/attention.js';
import { vocabularyLogits } from './blocks/head.js';
import { mixture } from './blocks/mixture.js';
import { gatedMlp } from './blocks/mlp.js';
import { scoreHead } from './blocks/taskHead.js';
import type { DecoderConfig, KeyValue, NormPlace, Sites, Stream } from './model.js';

const NAMES = {
  prefix: 'model.',
  layers: 'model.layers.',
  head: 'lm_head',
  embedding: 'model.embed_tokens',
} satisfies NetworkNames;

/** The network of a decoder of the Llama family. */
export function decoderNetwork(c: DecoderConfig): Network {
  return {
    config: c,
    stream: {
      ...DECODER_STREAM,
      groups: c.heads / c.kvHeads,
      windows: windowsOf(c),
      ropes: c.ropes,
    },
    cache: { layers: c.layers, kvHeads: c.kvHeads, headDim: c.headDim },
    names: NAMES,
    forward: (sites, stream, boundary) => forward(c, sites, stream, boundary),
    lmHead: (sites, hidden) => lmHead(c, sites, hidden),
    heads: (kind, out) => scoreHead({ in: c.hiddenSize, out, bias: kind === 'token' }, kind),
  };
}

/** The windows that its layers have, each once. */
function windowsOf({ attention }: DecoderConfig): (number | null)[] {
  return [...new Set(attention.map(({ window }) => window))];
}

/** Activations are kept as matrices [tokens, width], so that every product is one plain GEMM. */
function forward(
  c: DecoderConfig,
  sites: Sites,
  stream: Stream,
  boundary: (x: Tensor) => void = () => {},
): Tensor {
  const [batch, seq] = stream.ids.shape;
  const embedded = sites.embedding(NAMES.embedding, stream.ids, {
    in: c.vocabSize,
    out: c.hiddenSize,
    role: 'embedding',
  });
  let x = scaled(reshape(embedded, [mulDims(batch, seq), c.hiddenSize]), c.scales.embedding);
  for (let layer = 0; layer < c.layers; layer++) {
    const [attentionNorms, mlpNorms] = layerNorms(c, layer);
    boundary(x);
    x = residual(c, sites, attentionNorms, x, (y) => attention(c, sites, stream, layer, y));
    x = residual(c, sites, mlpNorms, x, (y) => feedForward(c, sites, layer, y));
  }
  boundary(x);
  return norm(c, sites, { name: 'model.norm', role: 'norm' }, x);
}

/** Logits over the vocabulary for rows of hidden states: [n, hidden] to [n, vocab]. */
function lmHead(c: DecoderConfig, sites: Sites, hidden: Tensor): Tensor {
  const logits = vocabularyLogits(c, NAMES, sites, hidden);
  return capped(scaled(logits, c.scales.logits), c.softcaps.logits);
}

/** A norm by its checkpoint name. */
interface NamedNorm extends NormPlace {
  name: string;
}

/** The norms before and behind a block; absent where there is none. */
interface BlockNorms {
  before?: NamedNorm;
  behind?: NamedNorm;
}

/** Those of attention and of the MLP. As they stand before one or behind the other, `post_attention_layernorm` is either. */
function layerNorms({ norms }: DecoderConfig, layer: number): [BlockNorms, BlockNorms] {
  const block = (of: 'attention' | 'mlp', before: string, behind: string): BlockNorms => {
    const at = (name: string) => `${NAMES.layers}${layer}.${name}`;
    return {
      ...(norms !== 'behind' && { before: { name: at(before), role: `${of}.norm`, layer } }),
      ...(norms !== 'before' && { behind: { name: at(behind), role: `${of}.post_norm`, layer } }),
    };
  };
  return [
    block('attention', 'input_layernorm', 'post_attention_layernorm'),
    block(
      'mlp',
      norms === 'both' ? 'pre_feedforward_layernorm' : 'post_attention_layernorm',
      'post_feedforward_layernorm',
    ),
  ];
}

function residual(
  c: DecoderConfig,
  sites: Sites,
  { before, behind }: BlockNorms,
  x: Tensor,
  block: (x: Tensor) => Tensor,
): Tensor {
  const y = block(before ? norm(c, sites, before, x) : x);
  return add(x, scaled(behind ? norm(c, sites, behind, y) : y, c.scales.residual));
}

/** RMSNorm over the last axis, or over `width` of it. */
function norm(
  c: DecoderConfig,
  sites: Sites,
  { name, ...place }: NamedNorm,
  x: Tensor,
  width = c.hiddenSize,
): Tensor {
  const gain = sites.param(`${name}.weight`, [width], place);
  return rmsNorm(x, c.normOffset === 0 ? gain : add(gain, scalar(c.normOffset)), c.rmsNormEps);
}

function scaled(x: Tensor, factor: number): Tensor {
  return factor === 1 ? x : mul(x, scalar(factor));
}

/** The MLP of a layer, or its experts. x: [batch·seq, hidden]. */
function feedForward(c: DecoderConfig, sites: Sites, layer: number, x: Tensor): Tensor {
  const experts = c.mixtures[layer];
  const shape = {
    at: `${NAMES.layers}${layer}.${experts?.names.block ?? 'mlp'}`,
    layer,
    hidden: c.hiddenSize,
    bias: c.bias.mlp,
    activation: c.activation,
    fused: c.fused,
  };
  if (experts) return mixture(sites, experts, shape, x);
  return gatedMlp(sites, { ...shape, inner: c.intermediateSize }, x);
}

/** Attention of a layer. x: [batch·seq, hidden]. */
function attention(c: DecoderConfig, sites: Sites, s: Stream, layer: number, x: Tensor): Tensor {
  const at = `${NAMES.layers}${layer}.self_attn`;
  const { window, rope } = c.attention[layer];
  const [batch, seq] = s.ids.shape;
  const [qRows, kRows, vRows] = projections(c, sites, at, layer, x);
  const prepared = (name: 'q' | 'k', rows: Tensor, heads: number): Tensor => {
    const named = (y: Tensor, width: number) =>
      norm(c, sites, { name: `${at}.${name}_norm`, role: `attention.${name}_norm`, layer }, y, width);
    const whole = c.qkNorm === 'all' ? named(rows, heads * c.headDim) : rows;
    const split = reshape(whole, [batch, seq, heads, c.headDim]);
    const y = transpose(c.qkNorm === 'head' ? named(split, c.headDim) : split, [0, 2, 1, 3]);
    return rope === null ? y : rotated(y, s.positions, s.rotaries[rope], c.ropes[rope].dim);
  };
  const q = prepared('q', qRows, c.heads);
  const added: KeyValue = {
    k: prepared('k', kRows, c.kvHeads),
    v: transpose(reshape(vRows, [batch, seq, c.kvHeads, c.headDim]), [0, 2, 1, 3]),
  };
  const seen = s.cache?.present(layer, added) ?? added;
  const mask = s.masks[windowsOf(c).indexOf(window)];
  const scoring = { scale: c.scales.attention, softcap: c.softcaps.attention };
  const rows = attend(c, scoring, q, mask, seen, s.cache?.past(layer));
  return sites.linear(`${at}.o_proj`, rows, {
    in: c.heads * c.headDim,
    out: c.hiddenSize,
    bias: c.bias.o,
    layer,
    role: 'attention.o',
  });
}

/** Queries, keys and values: [batch·seq, heads·headDim] each. */
function projections(
  c: DecoderConfig,
  sites: Sites,
  at: string,
  layer: number,
  x: Tensor,
): readonly Tensor[] {
  const widths = [c.heads, c.kvHeads, c.kvHeads].map((heads) => heads * c.headDim);
  const shape = { in: c.hiddenSize, bias: c.bias.qkv, layer };
  if (c.fused) {
    const out = widths.reduce((a, b) => a + b);
    return split(sites.linear(`${at}.qkv_proj`, x, { ...shape, out, role: 'attention.qkv' }), 1, widths);
  }
  return (['q', 'k', 'v'] as const).map((name, i) =>
    sites.linear(`${at}.${name}_proj`, x, { ...shape, out: widths[i], role: `attention.${name}` }),
  );
}
