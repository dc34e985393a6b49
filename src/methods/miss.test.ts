import { describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { Rng } from '../base/rng.js';
import { parseModelConfig } from '../models/index.js';
import { describe as shapeOf } from '../models/shape.js';
import { methodNamed } from './index.js';

const model = shapeOf(
  parseModelConfig('config.json', {
    model_type: 'llama',
    vocab_size: 50,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 64,
    tie_word_embeddings: true,
  }),
);

function selected(name: string, options: object) {
  const method = methodNamed(name);
  return method.select(method.parse(`${name} configuration`, options), model);
}

describe('what MiSS and HiRA refuse', () => {
  it.each([
    ['miss', { r: 17 }, 'r 17 is larger than the 16 inputs of model.layers.0.self_attn.q_proj'],
    [
      'miss',
      { r: 3, initWeights: 'bat' },
      'init_weights "bat" needs an r that divides the sides of each matrix, and 3 does not divide 16 × 16 of model.layers.0.self_attn.q_proj',
    ],
    [
      'miss',
      { r: 4, init_weights: 'mini', mini_r: 3 },
      'mini_r 3 does not divide the 16 outputs of model.layers.0.self_attn.q_proj',
    ],
    ['miss', { miniR: 4 }, 'miss configuration: mini_r is for init_weights "mini"'],
    ['miss', { missDropout: 0.1, initWeights: 'bat' }, 'miss_dropout is not for init_weights "bat"'],
    [
      'miss',
      { initWeights: 'gaussian' },
      'init_weights "gaussian" is not for miss, expected true, false, "bat" or "mini"',
    ],
    ['miss', { initWeights: 'bats' }, 'expected true, false, "gaussian", "bat" or "mini"'],
    ['miss', { targetModules: ['embed_tokens'] }, 'target_modules "embed_tokens" is an embedding'],
    [
      'hira',
      { initWeights: 'bat' },
      'init_weights "bat" is not for hira, expected true, false or "gaussian"',
    ],
    ['hira', { loraAlpha: 8 }, 'lora_alpha'],
    ['hira', { bias: 'all' }, 'bias'],
  ])('%s %j', (name, options, message) => {
    expect(() => selected(name, options)).toThrow(UserError);
    expect(() => selected(name, options)).toThrow(message);
  });
});

it('MiSS is not for matrices stored as [in, out], as in PEFT', () => {
  const gpt2 = { model_type: 'gpt2', vocab_size: 50, n_positions: 16, n_layer: 1, n_head: 2, n_embd: 16 };
  const method = methodNamed('miss');
  const select = () =>
    method.select(method.parse('c', { r: 4 }), shapeOf(parseModelConfig('config.json', gpt2)));
  expect(select).toThrow('PEFT has no MiSS for transformer.h.0.attn.c_attn, which is stored as [in, out]');
});

describe('how they start', () => {
  const spread = (data: Float32Array) => Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
  async function starts(name: string, options: object): Promise<Record<string, number>> {
    const found: Record<string, number> = {};
    for (const { at, init, shape } of selected(name, { targetModules: ['down_proj'], ...options })) {
      const data = await init!(new Rng(1, name), async () => new Float32Array());
      expect(data).toHaveLength(shape.reduce((n, size) => n * size, 1));
      found[at!.part] = spread(data);
    }
    return found;
  }
  it('as PEFT has it', async () => {
    expect(await starts('miss', { r: 8 })).toEqual({ miss_block: 0 });
    expect(await starts('miss', { r: 8, initWeights: 'bat' })).toEqual({ miss_block: 0 });
    // U(−1/√n, 1/√n) has the deviation 1/√(3n).
    expect((await starts('miss', { r: 8, initWeights: false })).miss_block).toBeCloseTo(1 / Math.sqrt(48), 1);
    const kaiming = await starts('hira', { r: 16 });
    expect(kaiming.hira_A).toBeCloseTo(1 / Math.sqrt(3 * 24), 1);
    expect(kaiming.hira_B).toBe(0);
    expect((await starts('hira', { r: 16, initWeights: 'gaussian' })).hira_A).toBeCloseTo(1 / 16, 1);
    const random = await starts('hira', { r: 16, initWeights: false });
    expect([random.hira_A, random.hira_B].map(Math.round)).toEqual([1, 1]);
    const embedding = await starts('hira', { r: 16, targetModules: ['embed_tokens'] });
    expect(embedding.hira_embedding_A).toBe(0);
    expect(Math.round(embedding.hira_embedding_B)).toBe(1);
  });
});
