/** Models that are only counted here, GPT-3 and DeBERTa: their shapes by their config.json. */
import * as z from 'zod';
import { checkJson } from '../formats/io/json.js';
import type { ModelConfig, Role, Site } from './model.js';
import type { Outline } from './shape.js';

/** More than any model has; what asks for more would list matrices for ever. */
const MAX_LAYERS = 1024;
const size = z.int().positive();

type Sizes = Pick<
  ModelConfig,
  'modelType' | 'vocabSize' | 'hiddenSize' | 'intermediateSize' | 'layers' | 'heads' | 'maxPositions'
>;

/**
 * A transformer's sizes and tensors. Its layers go by the names that those of a decoder have here (q_proj, o_proj, down_proj,
 * embed_tokens), so that all methods find them; queries, keys and values that its file holds in one matrix are three.
 */
export interface CountedModel extends Sizes, Outline {
  kvHeads: number;
  headDim: number;
}

/** GPT-3 is not published; keys are those of GPT-2, whose layers it has. */
const gpt3Keys = z.looseObject({
  vocab_size: size,
  n_embd: size,
  n_layer: size.max(MAX_LAYERS),
  n_head: size,
  n_positions: size,
});

const bertKeys = z.looseObject({
  vocab_size: size,
  hidden_size: size,
  num_hidden_layers: size.max(MAX_LAYERS),
  num_attention_heads: size,
  intermediate_size: size,
  max_position_embeddings: size,
  type_vocab_size: z.int().nonnegative().optional(),
});

const debertaKeys = bertKeys.extend({
  embedding_size: size.optional(),
  relative_attention: z.boolean().optional(),
  position_buckets: z.int().optional(),
  max_relative_positions: z.int().optional(),
  position_biased_input: z.boolean().optional(),
  share_att_key: z.boolean().optional(),
  pos_att_type: z.union([z.string(), z.array(z.string())]).nullish(),
  norm_rel_ebd: z.string().optional(),
  conv_kernel_size: z.int().optional(),
});

/** What reads a config.json of each `model_type` that is no decoder of the Llama family. */
export const countedModels: Readonly<Record<string, (place: string, config: unknown) => CountedModel>> = {
  gpt3: (place, config) => {
    const c = checkJson(place, config, gpt3Keys);
    const d = c.n_embd;
    const { collect, linear, norm, plain, embedding } = collector();
    embedding('model.embed_tokens', c.vocab_size, d);
    plain('model.embed_positions.weight', [c.n_positions, d]);
    for (let layer = 0; layer < c.n_layer; layer++) {
      norm(`model.layers.${layer}.input_layernorm`, d);
      norm(`model.layers.${layer}.post_attention_layernorm`, d);
      block(linear, layer, d, 4 * d);
    }
    norm('model.norm', d);
    return collect({
      modelType: 'gpt3',
      vocabSize: c.vocab_size,
      hiddenSize: d,
      intermediateSize: 4 * d,
      layers: c.n_layer,
      heads: c.n_head,
      maxPositions: c.n_positions,
    });
  },
  'deberta-v2': (place, config) => deberta(checkJson(place, config, debertaKeys)),
};

/**
 * DeBERTa v2 and v3 (transformers' DebertaV2Model): no pooler; embeddings of relative positions that all layers share,
 * with projections of their own in each layer unless those of keys and queries do; a convolution beside the first layer.
 */
function deberta(c: z.output<typeof debertaKeys>): CountedModel {
  const d = c.hidden_size;
  const { collect, linear, norm, plain, embedding } = collector();
  const width = c.embedding_size ?? d;
  embedding('model.embed_tokens', c.vocab_size, width);
  if (c.position_biased_input ?? true)
    plain('model.embed_positions.weight', [c.max_position_embeddings, width]);
  if (c.type_vocab_size) plain('model.embed_types.weight', [c.type_vocab_size, width]);
  if (width !== d) plain('model.embed_projection.weight', [d, width]);
  norm('model.embed_norm', d);
  const relative = c.relative_attention ?? false;
  const ways = relative && !(c.share_att_key ?? false) ? String(c.pos_att_type ?? '') : '';
  for (let layer = 0; layer < c.num_hidden_layers; layer++) {
    encoderBlock(linear, norm, layer, c);
    if (ways.includes('c2p'))
      linear(`model.layers.${layer}.self_attn.pos_key_proj`, 'attention.pos_k', d, d, layer);
    if (ways.includes('p2c'))
      linear(`model.layers.${layer}.self_attn.pos_query_proj`, 'attention.pos_q', d, d, layer);
  }
  if (relative) {
    const furthest =
      (c.max_relative_positions ?? -1) > 0 ? c.max_relative_positions! : c.max_position_embeddings;
    const buckets = (c.position_buckets ?? -1) > 0 ? c.position_buckets! : furthest;
    plain('model.relative_positions.weight', [2 * buckets, d]);
  }
  if ((c.norm_rel_ebd ?? 'none').includes('layer_norm')) norm('model.relative_norm', d);
  const kernel = c.conv_kernel_size ?? 0;
  if (kernel > 0) {
    plain('model.conv.weight', [d, d, kernel]);
    plain('model.conv.bias', [d]);
    norm('model.conv_norm', d);
  }
  return collect(encoderSizes('deberta-v2', c));
}

type Collector = ReturnType<typeof collector>;

function encoderSizes(modelType: string, c: z.output<typeof bertKeys>): Sizes {
  return {
    modelType,
    vocabSize: c.vocab_size,
    hiddenSize: c.hidden_size,
    intermediateSize: c.intermediate_size,
    layers: c.num_hidden_layers,
    heads: c.num_attention_heads,
    maxPositions: c.max_position_embeddings,
  };
}

function encoderBlock(
  linear: Collector['linear'],
  norm: Collector['norm'],
  layer: number,
  c: z.output<typeof bertKeys>,
): void {
  block(linear, layer, c.hidden_size, c.intermediate_size);
  norm(`model.layers.${layer}.attention_norm`, c.hidden_size);
  norm(`model.layers.${layer}.output_norm`, c.hidden_size);
}

/** The six matrices of a layer, each with a bias. */
function block(linear: Collector['linear'], layer: number, d: number, inner: number): void {
  const at = `model.layers.${layer}`;
  for (const name of ['q', 'k', 'v', 'o'] as const)
    linear(`${at}.self_attn.${name}_proj`, `attention.${name}`, d, d, layer);
  linear(`${at}.mlp.up_proj`, 'mlp.up', d, inner, layer);
  linear(`${at}.mlp.down_proj`, 'mlp.down', inner, d, layer);
}

/** Notes a model's matrices and other parameters one by one. */
function collector() {
  const sites: Site[] = [];
  const parameters = new Map<string, readonly number[]>();
  const plain = (name: string, shape: readonly number[]) => parameters.set(name, shape);
  return {
    plain,
    linear(name: string, role: Role, inputs: number, out: number, layer?: number): void {
      sites.push({
        name,
        kind: 'linear',
        role,
        in: inputs,
        out,
        bias: true,
        ...(layer !== undefined && { layer }),
      });
      plain(`${name}.weight`, [out, inputs]);
      plain(`${name}.bias`, [out]);
    },
    embedding(name: string, rows: number, width: number): void {
      sites.push({ name, kind: 'embedding', role: 'embedding', in: rows, out: width, bias: false });
      plain(`${name}.weight`, [rows, width]);
    },
    norm(name: string, width: number): void {
      plain(`${name}.weight`, [width]);
      plain(`${name}.bias`, [width]);
    },
    collect(c: Sizes): CountedModel {
      const cache = { layers: c.layers, kvHeads: c.heads, headDim: c.hiddenSize / c.heads };
      return { ...c, kvHeads: c.heads, headDim: cache.headDim, sites, parameters, cache };
    },
  };
}
