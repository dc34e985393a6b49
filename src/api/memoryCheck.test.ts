import { describe, expect, it } from 'vitest';
import { UserError } from '../base/errors.js';
import { emptyState } from '../methods/adapter.js';
import { type MethodName, methodNamed } from '../methods/index.js';
import { imaginedModel } from '../models/imagined.js';
import { parseModelConfig } from '../models/index.js';
import { nextToken } from '../train/data/nextToken.js';
import { causalLm } from '../train/objectives/causalLm.js';
import { objectiveOf } from '../train/objectives/index.js';
import { parseTrainOptions, type TrainInput } from '../train/options.js';
import { loadModel } from './loadModel.js';
import { embeddedModel } from './locate.js';
import {
  availableMemory,
  forecastMemory,
  longestOf,
  type MemoryJob,
  refuseBeyondMemory,
} from './memoryCheck.js';

const config = parseModelConfig('config', {
  model_type: 'llama',
  vocab_size: 32_000,
  hidden_size: 512,
  intermediate_size: 1536,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  max_position_embeddings: 4096,
  tie_word_embeddings: true,
});
const base = imaginedModel(config, 'float32');

function job(
  train: TrainInput = {},
  { longest = 513, method: name = 'lora' as MethodName, model = base }: Partial<JobParts> = {},
): MemoryJob {
  const method = methodNamed(name);
  const parsed = method.parse('c', {});
  const trainables = method.select(parsed, model);
  const adapter = { method, config: parsed, trainables, values: new Map(), state: emptyState() };
  const hyper = parseTrainOptions('options', train);
  return { base: model, adapter, objective: causalLm, hyper, longest };
}
interface JobParts {
  longest: number;
  method: MethodName;
  model: typeof base;
}

/** What is said with so many megabytes; empty where nothing is. */
function said(input: MemoryJob, megabytes: number): string {
  try {
    refuseBeyondMemory(input, megabytes * 1e6);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return error.message;
  }
  return '';
}

describe('a job that cannot fit', () => {
  it('is refused only where it is beyond the memory by far', () => {
    const needed = Number(/needs about (\S+) MB/.exec(said(job(), 300))![1]);
    expect(needed).toBeGreaterThan(500);
    expect(said(job(), needed)).toBe('');
    expect(said(job(), needed / 1.14)).toBe('');
    expect(said(job(), needed / 1.16)).toContain(
      `needs about ${needed.toFixed(1)} MB of memory, and there are`,
    );
  });

  it('has all rows of a batch at once where they are compared, and is told to take fewer', () => {
    const model = imaginedModel(
      { ...config, task: { kind: 'embedding', pooling: 'mean', normalize: true } },
      'float32',
    );
    const objective = objectiveOf(model);
    const of = (batchSize: number, rowsOfExample: number, microBatchTokens = 512) => ({
      ...job({ batchSize, microBatchTokens }, { longest: 65, model }),
      objective,
      rowsOfExample,
    });
    const needs = (...args: Parameters<typeof of>) => forecastMemory(of(...args)) / 1e6;
    expect(needs(64, 2)).toBeGreaterThan(1.5 * needs(32, 2));
    expect(needs(64, 3)).toBeGreaterThan(1.2 * needs(64, 2));
    expect(needs(64, 2, 4096)).toBe(needs(64, 2));
    const text = said(of(64, 2), needs(64, 2) / 1.5);
    expect(text).toContain('--batch-size 32 needs');
    expect(text).not.toContain('--micro-batch-tokens');
  });

  it('names each option that makes it fit by itself, with what it needs then', () => {
    const text = said(job({ microBatchTokens: 2048 }), 600);
    for (const part of [
      '--micro-batch-tokens 512 needs',
      '--gradient-checkpointing needs',
      '--ignore-memory goes on regardless',
    ]) {
      expect(text).toContain(part);
    }
    const needs = [...text.matchAll(/ needs (\d\S+) MB/g)].map(([, megabytes]) => Number(megabytes));
    expect(needs.length).toBeGreaterThan(1);
    for (const megabytes of needs) expect(megabytes).toBeLessThanOrEqual(600);
  });

  it('names several together where none is enough, and says when nothing is', () => {
    const long = job({ microBatchTokens: 4096 }, { longest: 2049 });
    const text = said(long, 800);
    expect(text).toMatch(/--micro-batch-tokens \d+ --gradient-checkpointing/);
    expect(said(long, 10)).toContain('which is too much too: take a smaller model');
    // One row at a time is what it does already.
    expect(said(job({ microBatchTokens: 1024 }, { longest: 1024 }), 10)).not.toContain(
      '--micro-batch-tokens',
    );
    const quantized = job({}, { model: imaginedModel(config, 'float32', 'nf4') });
    expect(said(quantized, 10)).not.toContain('--quantize');
    expect(said(job({}, { method: 'full' }), 10)).not.toContain('--quantize');
    expect(said(job({ gradientCheckpointing: true }), 10)).not.toContain('--gradient-checkpointing');
  });

  it('is refused in the library too, before the first step, unless that is not to be looked at', async () => {
    const model = await loadModel(embeddedModel);
    try {
      await model.addLora({ r: 2 });
      const rows = [{ prompt: 'one two three', completion: ' four five' }];
      const train = model.train({ data: rows, maxSteps: 1, availableMemory: 50e6 });
      await expect(train.next()).rejects.toThrow(/training needs about .* and there are 50\.0 MB/);
      const find = model.findLearningRate({ data: rows, availableMemory: 50e6 });
      await expect(find.next()).rejects.toThrow('--ignore-memory');
    } finally {
      await model.close();
    }
  });

  it('the machine has some, and the longest example is known with lengths and without', () => {
    expect(availableMemory()).toBeGreaterThan(1e8);
    const example = (length: number) => ({
      ids: new Int32Array(length),
      supervised: new Uint8Array(length),
      line: 1,
    });
    expect(longestOf([example(3), example(9), example(4)], nextToken)).toBe(9);
    expect(longestOf(Object.assign([example(3), example(4)], { lengths: [3, 4] }), nextToken)).toBe(4);
  });
});
