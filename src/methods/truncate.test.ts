import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { matrix, multiply } from '../base/linalg/matrix.js';
import { Rng } from '../base/rng.js';
import type { AdapterFiles } from '../formats/peft.js';
import { peftLoraConfig, rankOf, scalingOf } from '../formats/peftConfig.js';
import { adapterKey } from '../formats/peftNames.js';
import { NodeRuntime } from '../graph/runtime/node.js';
import { type BaseModel, openModel } from '../models/base.js';
import { type Adapter, createAdapter } from './adapter.js';
import { type Extracted, extractLora, extractShape } from './extract.js';
import { methodNamed } from './index.js';
import { writeMergedModel } from './merge.js';
import { reduceRanks } from './reduce.js';
import { rankFor, type TruncatedLayer } from './truncate.js';

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-truncate-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

/** s·B·A of a site. */
function productOf({ config, tensors }: AdapterFiles, site: string): Float64Array {
  const [a, b] = (['lora_A', 'lora_B'] as const).map((part) => {
    const { shape, data } = tensors.get(adapterKey(site, part))!;
    return matrix(shape[0], shape[1], data);
  });
  const scale = scalingOf(config, site);
  return multiply(b, a).data.map((x) => x * scale);
}

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(difference / size);
}

describe('rankFor', () => {
  const s = [4, 2, 1, 0];
  it.each([
    [{ r: 3 }, 3],
    [{ r: 9 }, 3],
    [{ r: 3, energy: 16 / 21 }, 1],
    [{ r: 3, energy: 0.9 }, 2],
    [{ r: 2, energy: 1 }, 2],
    [{ r: 4, energy: 1 }, 3],
  ])('%j', (truncation, rank) => expect(rankFor(s, 21, truncation)).toBe(rank));
  it('is at least 1', () => expect(rankFor([0, 0], 0, { r: 2 })).toBe(1));
});

describe('extraction from two checkpoints', () => {
  let base: BaseModel;
  let tuned: BaseModel;
  let adapter: Adapter;
  const options = (given: object = {}) => z.object(extractShape).parse(given);

  async function extract(given: object = {}): Promise<Extracted & { layers: TruncatedLayer[] }> {
    const work = extractLora(base, tuned, options(given));
    const layers: TruncatedLayer[] = [];
    let next = await work.next();
    for (; !next.done; next = await work.next()) layers.push(next.value);
    return { ...next.value, layers };
  }

  beforeAll(async () => {
    base = await openModel(fileURLToPath(new URL('../../test/golden/fixtures/qwen2', import.meta.url)));
    const lora = methodNamed('lora');
    const config = lora.parse('c', {
      r: 3,
      loraAlpha: 3,
      targetModules: ['q_proj', 'down_proj'],
      initLoraWeights: false,
    });
    adapter = await createAdapter(lora, config, base, 3);
    await writeMergedModel(join(scratch, 'tuned'), runtime, base, adapter, { dtype: 'float32' });
    tuned = await openModel(join(scratch, 'tuned'));
  });

  it('finds the LoRA that was merged', async () => {
    const { adapter: found, left, layers } = await extract({ r: 3 });
    expect(left).toEqual([]);
    expect(layers.map((layer) => layer.site)).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.mlp.down_proj',
      'model.layers.1.self_attn.q_proj',
      'model.layers.1.mlp.down_proj',
    ]);
    for (const { site, captured, norm } of layers) {
      const parts = new Map([...adapter.values].map(([key, t]) => [key, { shape: t.dims, data: t.data }]));
      const merged = productOf({ config: peftLoraConfig({ r: 3, lora_alpha: 3 }), tensors: parts }, site);
      expect(distance(productOf(found, site), merged)).toBeLessThan(1e-5);
      expect(captured).toBeGreaterThan(1 - 1e-9);
      expect(norm).toBeCloseTo(Math.sqrt(merged.reduce((sum, x) => sum + x * x, 0)), 4);
    }
  });

  it('gives each layer the rank that holds the energy asked for', async () => {
    const { adapter: found, layers } = await extract({ r: 8, energy: 0.8 });
    for (const { site, r, captured } of layers) {
      expect(captured).toBeGreaterThanOrEqual(0.8);
      expect(r).toBeLessThanOrEqual(3);
      expect(rankOf(found.config, site)).toBe(r);
      expect(scalingOf(found.config, site)).toBe(1);
    }
    const [{ captured }] = (await extract({ r: 1 })).layers;
    expect(captured).toBeLessThan(1);
  });

  it('tells what else differs', async () => {
    const { left, layers } = await extract({ r: 3, targetModules: ['q_proj'] });
    expect(layers).toHaveLength(2);
    expect(left).toEqual(['model.layers.0.mlp.down_proj.weight', 'model.layers.1.mlp.down_proj.weight']);
  });

  it('refuses models that are the same, or of other shapes', async () => {
    await expect(extract({ targetModules: ['k_proj'] })).rejects.toThrow(
      'nothing to extract, which differ in',
    );
    tuned = base;
    await expect(extract()).rejects.toThrow(/has the same targets as .*: nothing to extract$/);
    tuned = await openModel(fileURLToPath(new URL('../../test/golden/fixtures/llama2', import.meta.url)));
    await expect(extract()).rejects.toThrow('these are not one model, tuned');
  });
});

describe('reduction of ranks', () => {
  const site = 'model.layers.0.self_attn.q_proj';
  function files(rank: number, more: object = {}): AdapterFiles {
    const rng = new Rng(4);
    const tensor = (shape: number[]) => ({
      shape,
      data: Float32Array.from({ length: shape[0] * shape[1] }, () => rng.normal()),
    });
    const tensors = new Map([
      [adapterKey(site, 'lora_A'), tensor([rank, 12])],
      [adapterKey(site, 'lora_B'), tensor([10, rank])],
    ]);
    return {
      config: peftLoraConfig({ r: rank, lora_alpha: 5, target_modules: ['q_proj'], ...more }),
      tensors,
    };
  }
  function reduce(adapter: AdapterFiles, truncation: { r: number; energy?: number }) {
    const work = reduceRanks('a', adapter, truncation);
    const layers: TruncatedLayer[] = [];
    let next = work.next();
    for (; !next.done; next = work.next()) layers.push(next.value);
    return { adapter: next.value, layers };
  }

  it('to the rank it has keeps what it computes, rsLoRA too', () => {
    const before = files(4, { use_rslora: true });
    const { adapter, layers } = reduce(before, { r: 6 });
    expect(layers).toMatchObject([{ site, r: 4, out: 10, in: 12, done: 1, of: 1 }]);
    expect(layers[0].captured).toBeCloseTo(1, 12);
    expect(distance(productOf(adapter, site), productOf(before, site))).toBeLessThan(1e-6);
  });

  it('to a lower one loses what it says', () => {
    const before = files(6);
    const { adapter, layers } = reduce(before, { r: 2 });
    const error = distance(productOf(adapter, site), productOf(before, site));
    expect(error).toBeGreaterThan(0.1);
    expect(1 - error ** 2).toBeCloseTo(layers[0].captured, 5);
    expect(adapter.config.r).toBe(2);
    expect(reduce(before, { r: 6, energy: 0.7 }).layers[0].captured).toBeGreaterThanOrEqual(0.7);
  });

  it('refuses what is not a plain LoRA', () => {
    expect(() => reduce(files(2, { use_dora: true }), { r: 1 })).toThrow(
      'a is a DoRA adapter, and only the ranks of plain LoRA are lowered',
    );
  });
});
