import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { singularValues } from '../base/linalg/index.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { createAdapter } from '../methods/adapter.js';
import { methodNamed } from '../methods/index.js';
import { lora } from '../methods/lora.js';
import { type BaseModel, openModel } from '../models/base.js';
import { batchesOf } from './data/batches.js';
import type { Example } from './data/encode.js';
import { nextToken } from './data/nextToken.js';
import { gradientOf } from './loop.js';
import { allocateRanks, gradientSpectra, planRanks } from './ranks.js';
import { TrainStep } from './step.js';

const options = { maxRank: 64, batches: 2, batchSize: 4, microBatchTokens: 64, seed: 3 };
const examples: Example[] = Array.from({ length: 8 }, (_, line) => {
  const ids = Int32Array.from({ length: 9 }, (_, i) => (i * 5 + line * 7) % 90);
  return { ids, supervised: new Uint8Array(9).fill(1), line };
});

describe('ranks within a budget', () => {
  it('go to the largest singular value a parameter', () => {
    const sites = [
      { name: 'wide', in: 30, out: 10 },
      { name: 'small', in: 5, out: 5 },
      { name: 'idle', in: 5, out: 5 },
    ];
    const spectra = new Map([
      ['wide', [8, 4.1, 0.1]],
      ['small', [1.5, 0.9, 0.2]],
      ['idle', [0, 0]],
    ]);
    // Worth a parameter: wide 0.2, 0.1025, 0.0025; small 0.15, 0.09, 0.02.
    expect([...allocateRanks(sites, spectra, 95)]).toEqual([
      ['wide', 2],
      ['small', 1],
    ]);
    expect([...allocateRanks(sites, spectra, 1000)]).toEqual([
      ['wide', 3],
      ['small', 3],
    ]);
    expect(() => allocateRanks(sites, spectra, 9)).toThrow(
      'a budget of 9 parameters buys no rank: one of the smallest target costs 10',
    );
  });
});

describe('spectra of the gradient', () => {
  const runtime = new NodeRuntime();
  let model: BaseModel;
  beforeAll(async () => {
    model = await openModel(fileURLToPath(new URL('../../test/golden/fixtures/llama2', import.meta.url)));
  });
  afterAll(() => runtime.close());

  it('are those of the whole gradient of the matrix', async () => {
    const sites = model.sites.filter((s) => s.kind === 'linear' && /layers\.1\.(self_attn|mlp)/.test(s.name));
    const spectra = await gradientSpectra(runtime, model, sites, examples, options);

    const full = methodNamed('full');
    const step = await TrainStep.create(
      runtime,
      model,
      await createAdapter(full, full.parse('c', {}), model),
    );
    const sums = new Map<string, Float64Array>();
    for (const batch of batchesOf(examples, nextToken, { ...options, epoch: 0 })) {
      const { grads } = await gradientOf(step, batch, 0, 0);
      for (const { name } of sites) {
        const { data } = grads.get(`${name}.weight`)!;
        const sum = sums.get(name) ?? new Float64Array(data.length);
        data.forEach((g, i) => {
          sum[i] += g / options.batches;
        });
        sums.set(name, sum);
      }
    }
    await step.close();
    for (const site of sites) {
      const exact = singularValues(sums.get(site.name)!, site.out, site.in);
      const found = spectra.get(site.name)!;
      expect(found).toHaveLength(Math.min(site.in, site.out));
      found.forEach((sigma, i) => expect(Math.abs(sigma - exact[i])).toBeLessThan(1e-5 * exact[0] + 1e-9));
    }
  });

  it('make a configuration of the same scale that costs no more than uniform ranks', async () => {
    const config = lora.parse('c', { r: 4, loraAlpha: 8, targetModules: 'all-linear' });
    const plan = await planRanks(runtime, model, config, examples, options);
    const uniform = lora.select(config, model).reduce((n, t) => n + t.shape[0] * t.shape[1], 0);
    const chosen = lora.select(plan.config, model);
    expect(plan.budget).toBe(uniform);
    expect(chosen.reduce((n, t) => n + t.shape[0] * t.shape[1], 0)).toBe(plan.parameters);
    expect(plan.parameters).toBeLessThanOrEqual(uniform);
    expect(new Set(Object.values(plan.config.rankPattern)).size).toBeGreaterThan(1);
    for (const [site, r] of Object.entries(plan.config.rankPattern)) {
      expect(plan.config.alphaPattern[site] / r).toBe(2);
    }
  });
});
