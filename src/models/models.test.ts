import { describe, expect, it } from 'vitest';
import { parseModelConfig } from './index.js';
import { fillCausalMask, fillMutualMask } from './masks.js';
import { inverseFrequencies } from './rope.js';
import { describe as shapeOf } from './shape.js';

const llama = {
  model_type: 'llama',
  vocab_size: 49152,
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  rope_theta: 100000,
  tie_word_embeddings: true,
};

describe('config.json', () => {
  it('gives SmolLM2-135M its sites and parameters', () => {
    const { sites, parameters } = shapeOf(parseModelConfig('c', llama));
    expect(sites.filter((s) => s.kind === 'linear')).toHaveLength(30 * 7 + 1);
    let total = 0;
    for (const shape of parameters.values()) total += shape.reduce((a, b) => a * b, 1);
    expect(total).toBe(134_515_008);
    expect(sites.find((s) => s.name === 'lm_head')?.tiedTo).toBe('model.embed_tokens');
  });
  it.each([
    [
      { ...llama, model_type: 'lama' },
      'c: key "model_type": "lama" is not supported, expected one of llama, mistral, qwen2, qwen3, mixtral, qwen3_moe, smollm3, granite, olmo2, phi3, gemma, gemma2, gemma3_text, gpt2, gpt_neox, bert, roberta, xlm-roberta, distilbert, deberta-v2, modernbert (did you mean "llama"?)',
    ],
    [{ ...llama, hidden_size: 'x' }, 'c: key "hidden_size": expected number'],
    [
      { ...llama, num_key_value_heads: 4 },
      'c: key "num_key_value_heads": 4 does not divide num_attention_heads, 9',
    ],
    [
      { ...llama, hidden_act: 'gelo' },
      'c: key "hidden_act": "gelo" is not supported, expected one of silu, swish, ',
    ],
    [{ ...llama, num_hidden_layers: 1e9 }, 'c: key "num_hidden_layers"'],
    [{ ...llama, rms_norm_eps: 1e308 }, 'c: key "rms_norm_eps"'],
    [
      { ...llama, head_dim: 7 },
      'c: key "rope_parameters": 7 of the 7 dimensions of a head would be rotated, and rotary embeddings need an even number',
    ],
    [
      { ...llama, quantization_config: { quant_method: 'gptq', bits: 4 } },
      'c: key "quantization_config": the weights were quantized by GPTQ, which is not read',
    ],
    [
      {
        ...llama,
        quantization: { group_size: 64, bits: 4 },
        quantization_config: { group_size: 64, bits: 4 },
      },
      'c: key "quantization": the weights were quantized by mlx, which is not read',
    ],
    [
      { ...llama, rope_scaling: { rope_type: 'spiral', factor: 2 } },
      'c: key "rope_scaling.rope_type": "spiral" is not supported, expected default, linear, dynamic, llama3, yarn or longrope',
    ],
    [
      { ...llama, rope_scaling: { rope_type: 'llama3', factor: 2 } },
      'c: key "rope_scaling.low_freq_factor" is missing; rope type "llama3" needs it',
    ],
    [
      { ...llama, rope_scaling: { rope_type: 'longrope', short_factor: [1], long_factor: [2] } },
      'c: key "rope_scaling.short_factor" has 1 factors, and',
    ],
    [
      { ...llama, partial_rotary_factor: 0.01 },
      'partial_rotary_factor": rotating a part of each head only is not supported for this model_type',
    ],
    [
      { ...llama, is_causal: false },
      'c: key "is_causal": attention to what comes later is not supported, expected true',
    ],
    [
      { ...llama, model_type: 'qwen2', use_sliding_window: true, sliding_window: 0 },
      'c: key "sliding_window": expected a number above 0',
    ],
    [{ ...llama, model_type: 'mistral', sliding_window: 0 }, 'c: key "sliding_window"'],
    [
      { model_type: 'mixtral', num_local_experts: 2, num_experts_per_tok: 3 },
      'c: key "num_experts_per_tok" is 3, and there are 2 experts',
    ],
    [
      { model_type: 'qwen3_moe', num_local_experts: 2, num_experts: 3 },
      'c: key "num_local_experts" is 2 and "num_experts", another name of it, 3',
    ],
    [
      { model_type: 'mixtral', output_router_logits: true },
      'c: key "output_router_logits": a router\'s own loss is not supported, expected false',
    ],
    [[], 'c: expected object'],
  ])('refuses %#', (config, message) => {
    expect(() => parseModelConfig('c', config)).toThrow(message);
  });
});

it.each([
  ['llama', { sliding_window: 0, max_window_layers: null, use_sliding_window: 'no' }],
  ['mistral', { attention_bias: null, mlp_bias: null, use_sliding_window: null }],
  ['qwen2', { attention_bias: null, mlp_bias: null, sliding_window: 0 }],
  ['qwen3', { mlp_bias: null, sliding_window: 0, use_sliding_window: false, max_window_layers: -1 }],
])('a key that the class does not look at means nothing: %s', (model_type, unused) => {
  const plain = parseModelConfig('c', { ...llama, model_type });
  expect(parseModelConfig('c', { ...llama, model_type, ...unused })).toEqual(plain);
});

describe('rotary frequencies', () => {
  it('scale linearly, or as Llama 3.1 does by wavelength', () => {
    const rope = { theta: 10_000, dim: 64 };
    const plain = inverseFrequencies({ ...rope, scaling: { type: 'default' } }, 8);
    const linear = inverseFrequencies({ ...rope, scaling: { type: 'linear', factor: 4 } }, 8);
    plain.forEach((f, i) => expect(linear[i]).toBeCloseTo(f / 4, 10));
    const scaling = {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositions: 64,
    } as const;
    const llama3 = inverseFrequencies({ ...rope, scaling }, 8);
    expect(llama3[0]).toBe(plain[0]);
    expect(llama3[31]).toBeCloseTo(plain[31] / 8, 12);
  });
});

describe('causal mask', () => {
  it('shows the past, within the window', () => {
    const mask = new Float32Array(2 * 3 * 3);
    fillCausalMask(mask, 2, 3, 2);
    const seen = [1, 0, 0, 1, 1, 0, 0, 1, 1];
    expect([...mask].map((v) => (v === 0 ? 1 : 0))).toEqual([...seen, ...seen]);
  });
  it('shows nothing of the other examples in a packed row', () => {
    const mask = new Float32Array(4 * 4);
    fillCausalMask(mask, 1, 4, 2, Int32Array.of(0, 1, 1, 1));
    const seen = [1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1];
    expect([...mask].map((v) => (v === 0 ? 1 : 0))).toEqual(seen);
  });
});

describe('mask of an encoder', () => {
  const seen = (mask: Float32Array) => [...mask].map((v) => (v === 0 ? 1 : 0));
  it('shows what is less than a window away to both sides, no padding, and the whole prefix', () => {
    const mask = new Float32Array(4 * 5);
    fillMutualMask(mask, 1, 4, 2, 3, undefined, 1);
    expect(seen(mask)).toEqual([1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0]);
  });
  it('shows nothing of the other examples in a packed row', () => {
    const mask = new Float32Array(4 * 4);
    fillMutualMask(mask, 1, 4, null, 4, Int32Array.of(0, 0, 2, 2));
    expect(seen(mask)).toEqual([1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1]);
  });
});
