import { describe, expect, it } from 'vitest';
import { Arena } from '../graph/arena.js';
import { trainableCount } from '../methods/counts.js';
import { type MethodName, methodNamed } from '../methods/index.js';
import { imaginedModel } from '../models/imagined.js';
import { parseModelConfig } from '../models/index.js';
import { largestMicroBatch, type TrainingMemoryInput, trainingMemory } from './memory.js';

// Measured peaks are in bench/plan.mjs and docs/plan.md; here is what must hold of any forecast.
const config = parseModelConfig('config', {
  model_type: 'llama',
  vocab_size: 4096,
  hidden_size: 256,
  intermediate_size: 640,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  max_position_embeddings: 2048,
  tie_word_embeddings: true,
});

function forecast(
  input: Partial<TrainingMemoryInput> & { rows?: number; length?: number } = {},
  { method: name = 'lora' as MethodName, options = {}, model = imaginedModel(config, 'float32') } = {},
) {
  const { rows = 4, length = 256, ...rest } = input;
  const method = methodNamed(name);
  const parsed = method.parse('c', options);
  const trainables = method.select(parsed, model);
  return trainingMemory(model, { method, config: parsed, trainables }, { micro: { rows, length }, ...rest });
}

describe('the forecast of a run', () => {
  it('counts the weights as they lie on the disk', () => {
    const bytes = (dtype: 'float32' | 'bfloat16', format?: 'nf4') =>
      forecast({}, { model: imaginedModel(config, dtype, format) }).weights;
    // The file of the bundled base, which has this shape in float16.
    const file = 7_348_688;
    expect(bytes('float32')).toBe(2 * bytes('bfloat16'));
    expect(Math.abs(bytes('bfloat16') - file)).toBeLessThan(8192);
    expect(bytes('float32', 'nf4')).toBeLessThan(bytes('bfloat16'));
  });

  it('grows with tokens and falls with checkpointing, the more of it the deeper', () => {
    const one = forecast({ rows: 1 }).activations;
    const four = forecast({ rows: 4 }).activations;
    expect(four / one).toBeGreaterThan(2.5);
    expect(four / one).toBeLessThan(4.5);
    const again = (layers: boolean | number) => forecast({ gradientCheckpointing: layers }).activations;
    expect(again(true)).toBeLessThan(0.7 * four);
    expect(again(2)).toBeLessThan(four);
    expect(again(true)).toBeLessThan(again(2));
    // Attention grows with the square of the length.
    expect(forecast({ rows: 1, length: 2048 }).activations).toBeGreaterThan(
      1.5 * forecast({ rows: 8, length: 256 }).activations,
    );
  });

  it('counts what trains with its gradients and moments, and an evaluation', () => {
    const lora = forecast({}, { options: { r: 8, targetModules: ['q_proj'] } });
    expect(lora.trained).toBe(5 * 4 * 4 * 8 * (256 + 256));
    expect(lora.evaluation).toBe(0);
    expect(forecast({ evaluated: { rows: 4, length: 256 } }).evaluation).toBeGreaterThan(1e6);
    const full = forecast({}, { method: 'full' });
    const method = methodNamed('full');
    const all = trainableCount(method.select({}, imaginedModel(config, 'float32')));
    expect(full.trained).toBe(5 * 4 * all);
    expect(full.weights).toBe(0);
  });

  it.each([
    'dora',
    'vera',
    'miss',
    'hira',
    'adalora',
    'pissa',
    'houlsby',
    'lin',
    'prefix',
    'prompt',
    'lorafa',
  ] as const)('is there for method %s', (method) => {
    const { total, activations } = forecast({}, { method });
    expect(activations).toBeGreaterThan(0);
    expect(Number.isSafeInteger(total)).toBe(true);
  });

  it('micro-batches hold as many of the longest rows as there is room for, and one at least', () => {
    expect(largestMicroBatch(256, 1024, 8)).toEqual({ rows: 4, length: 256 });
    expect(largestMicroBatch(256, 1024, 2)).toEqual({ rows: 2, length: 256 });
    expect(largestMicroBatch(2048, 1024, 8)).toEqual({ rows: 1, length: 2048 });
  });
});

describe('the arena', () => {
  it('takes the best fit, splits where half would be wasted, joins what is free', () => {
    const arena = new Arena();
    const [a, b, c] = [arena.allocate(1000), arena.allocate(300), arena.allocate(1000)];
    expect([a.size, b.start, c.start, arena.touched]).toEqual([1024, 1024, 1536, 2536]);
    arena.release(b);
    // 512 bytes are free between the two: less than twice 300, so they are taken whole.
    expect(arena.allocate(300)).toMatchObject({ start: 1024, size: 512 });
    arena.release(a);
    arena.release(c);
    expect(arena.touched).toBe(2536);
  });

  it('grows by regions of powers of two', () => {
    const arena = new Arena();
    const first = arena.allocate(2 ** 20);
    const second = arena.allocate(2 ** 21);
    expect(second.region).not.toBe(first.region);
    expect(arena.allocate(100).region).not.toBe(second.region);
    expect(arena.touched).toBe(2 ** 20 + 2 ** 21 + 100);
  });
});
