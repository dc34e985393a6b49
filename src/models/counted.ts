/** What is only counted here: GPT-3, by a config.json with GPT-2's keys. */
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
};

/** The six matrices of a layer, each with a bias. */
function block(
  linear: ReturnType<typeof collector>['linear'],
  layer: number,
  d: number,
  inner: number,
): void {
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
      return { ...c, kvHeads: c.heads, headDim: cache.headDim, sites, parameters, trained: [], cache };
    },
  };
}
