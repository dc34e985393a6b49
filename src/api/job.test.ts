import { describe, expect, it } from 'vitest';
import { flattenJob, jobSchema, resolveJob } from './job.js';

const needed = { model: 'm', data: 'd.jsonl', output: 'out' };

describe('jobs', () => {
  it('have the defaults of their schemas, and options go to whom they belong', () => {
    const job = resolveJob({ ...needed, r: 4, targetModules: 'q_proj,k_proj', batchSize: 2 });
    expect(job).toMatchObject({
      ...needed,
      data: ['d.jsonl'],
      method: 'lora',
      lossOn: 'completion',
      device: 'cpu',
      methodOptions: { r: 4, loraAlpha: 8, targetModules: ['q_proj', 'k_proj'] },
      train: { batchSize: 2, seed: 0 },
    });
    expect(job).not.toHaveProperty('batchSize');
  });

  it('take ranks chosen by the data, and what belongs to them, of methods that have ranks', () => {
    const job = resolveJob({ ...needed, r: 'auto', rankBudget: 1000, loraAlpha: 4 });
    expect(job).toMatchObject({
      methodOptions: { r: 8, loraAlpha: 4 },
      ranks: { rankBudget: 1000, rankMax: 32, rankBatches: 8 },
    });
  });

  it.each([
    {},
    { r: 'auto', rankMax: 4 },
    { initLoraWeights: 'eva', evaConfig: { rho: 1.5 }, evaBatches: 3, method: 'dora' },
    { r: 3, useRslora: true, evalData: 'e', maxSteps: 9 },
    { method: 'full' },
    { data: ['a', 'b'], evalData: ['c'] },
  ])('written flat, read back, are the same: %j', (options) => {
    const job = resolveJob({ ...needed, ...options });
    const flat: unknown = JSON.parse(JSON.stringify(flattenJob(job)));
    expect(resolveJob(jobSchema.parse(flat))).toEqual(job);
  });

  it.each([
    [{ data: 'd', output: 'o' }, 'the option "model" is missing'],
    [{ ...needed, rankBudget: 9 }, 'the option "rankBudget" is for r "auto" only'],
    [{ ...needed, evaBatches: 9 }, 'the option "evaBatches" is for initLoraWeights "eva" only'],
    [{ ...needed, initLoraWeights: 'eva', r: 'auto' }, 'init_lora_weights "eva" chooses the ranks itself'],
    [{ ...needed, method: 'vera', r: 'auto' }, 'r "auto" is not for method vera'],
    [{ ...needed, method: 'adalora', r: 'auto' }, 'it chooses the ranks itself while it trains, by target_r'],
    [{ ...needed, method: 'full', r: 8 }, 'the option "r" is not for method full'],
  ])('%j are refused', (given, message) => {
    expect(() => resolveJob(given)).toThrow(message);
  });
});
