import { describe, expect, it } from 'vitest';
import type { Site } from '../models/model.js';
import type { Outline } from '../models/shape.js';
import { trainableCount } from './counts.js';
import { houlsby } from './houlsby.js';
import { lin } from './lin.js';
import { lora } from './lora.js';
import { pfeiffer } from './pfeiffer.js';
import { prompt } from './prompt.js';

// Trainable parameters of the models of the LoRA paper (arXiv:2106.09685), by their shapes alone: no weights are needed.

/** W_q and W_v of every layer, square of size d, under the names that the paper's models give them here. */
function attention(layers: number, d: number): Outline {
  const sites = Array.from({ length: layers }, (_, layer) =>
    (['q', 'k', 'v', 'o'] as const).map(
      (part): Site => ({
        name: `model.layers.${layer}.self_attn.${part}_proj`,
        kind: 'linear',
        role: `attention.${part}`,
        layer,
        in: d,
        out: d,
        bias: false,
      }),
    ),
  ).flat();
  return { sites, parameters: new Map(), trained: [], cache: { layers, kvHeads: 1, headDim: d } };
}

const count = (layers: number, d: number, options: object) =>
  trainableCount(lora.select(lora.parse('c', options), attention(layers, d)));

describe('trainable parameters of the LoRA paper', () => {
  it.each([
    ['GPT-3 r=1 (Table 4: 4.7M)', 96, 12_288, 1, 4_718_592],
    ['GPT-3 r=4', 96, 12_288, 4, 18_874_368],
    ['GPT-3 r=8 (Table 4: 37.7M)', 96, 12_288, 8, 37_748_736],
    ['RoBERTa-base r=8 (Table 2: 0.3M)', 12, 768, 8, 294_912],
    ['RoBERTa-large r=8 (Table 2: 0.8M)', 24, 1024, 8, 786_432],
    ['DeBERTa-XXL r=16 (Table 2: 4.7M)', 48, 1536, 16, 4_718_592],
    ['GPT-2 medium r=4', 24, 1024, 4, 393_216],
    ['GPT-2 large r=4', 36, 1280, 4, 737_280],
  ])('%s: W_q and W_v', (_, layers, d, r, parameters) => {
    expect(count(layers, d, { r, targetModules: ['q_proj', 'v_proj'] })).toBe(parameters);
  });

  it('one budget spent in four ways is one budget (Table 5: r 8, 4, 2 on one, two, four matrices)', () => {
    const budget = 18_874_368;
    for (const [r, targetModules] of [
      [8, ['q_proj']],
      [8, ['v_proj']],
      [4, ['q_proj', 'v_proj']],
      [2, ['q_proj', 'k_proj', 'v_proj', 'o_proj']],
    ] as const) {
      expect(count(96, 12_288, { r, targetModules })).toBe(budget);
    }
  });

  it('r(d + k) against d·k: 1,536 times fewer for GPT-3 at r 4, 256 times for 4,096² at r 8', () => {
    const one = { targetModules: ['q_proj'] };
    expect(12_288 ** 2 / count(1, 12_288, { ...one, r: 4 })).toBe(1536);
    expect(4096 ** 2 / count(1, 4096, { ...one, r: 8 })).toBe(256);
  });

  const block = (layers: number, d: number) => {
    const { sites, ...rest } = attention(layers, d);
    const mlp = Array.from({ length: layers }, (_, layer): Site => {
      const name = `model.layers.${layer}.mlp.down_proj`;
      return { name, kind: 'linear', role: 'mlp.down', layer, in: 4 * d, out: d, bias: false };
    });
    return { sites: [...sites, ...mlp], ...rest };
  };
  const adapters = (method: typeof houlsby, layers: number, d: number, bottleneckSize: number) =>
    trainableCount(method.select(method.parse('c', { bottleneckSize }), block(layers, d)));

  it('GPT-3 prefix-embedding with l_p 256 and l_i 8 (Table 4: 3.2M): d·(l_p + l_i)', () => {
    const embedding: Site = {
      name: 'model.embed_tokens',
      kind: 'embedding',
      role: 'embedding',
      in: 50_257,
      out: 12_288,
      bias: false,
    };
    const model = { ...attention(0, 12_288), sites: [embedding] };
    expect(trainableCount(prompt.select({ numVirtualTokens: 256 + 8 }, model))).toBe(3_244_032);
  });

  it.each([
    ['GPT-3 r=1 (Table 4: 7.1M)', 96, 12_288, 1, 7_078_080],
    ['GPT-3 r=8 (Table 4: 40.1M)', 96, 12_288, 8, 40_109_568],
  ])('%s: AdapterH', (_, layers, d, r, parameters) => {
    expect(adapters(houlsby, layers, d, r)).toBe(parameters);
  });

  it('RoBERTa-base, a bottleneck of 48 (Table 2: 0.9M): AdapterP', () => {
    expect(adapters(pfeiffer, 12, 768, 48)).toBe(894_528);
  });

  it.each([
    ['GPT-3', 96, 12_288],
    ['GPT-2 medium', 24, 1024],
    ['GPT-2 large', 36, 1280],
    ['RoBERTa-base', 12, 768],
    ['RoBERTa-large', 24, 1024],
    ['DeBERTa-XXL', 48, 1536],
  ])('%s: L̂·(2·d·r + r + d), and 2·d for each LayerNorm', (_, layers, d) => {
    for (const r of [1, 16]) {
      const one = layers * (2 * d * r + r + d);
      expect(adapters(houlsby, layers, d, r)).toBe(2 * one);
      expect(adapters(pfeiffer, layers, d, r)).toBe(one);
      expect(adapters(lin, layers, d, r)).toBe(one + layers * 2 * d);
    }
  });
});
