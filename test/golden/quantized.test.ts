import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Rng } from '../../src/base/rng.js';
import { type QuantFormat, quantFormats } from '../../src/formats/quant/index.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { type MethodName, methodNamed } from '../../src/methods/index.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { quantizeFolder } from '../../src/models/quantizing.js';
import { KvCache } from '../../src/serve/cache.js';
import { DecodeStep } from '../../src/serve/decode.js';
import type { MicroBatch } from '../../src/train/data/batches.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import { slopeAlong } from './finiteDifferences.js';
import { golden, relativeError } from './reference.js';

// A quantized base against a float32 model that has its dequantized weights: the same losses and gradients, for methods
// that only multiply with the base (lora, vera, miss), one that also takes norms of it (dora) and one that takes its elements (hira). And against itself: the
// gradients are those of the loss that the quantized base has.

const METHODS: Partial<Record<MethodName, object>> = {
  lora: { r: 3, loraAlpha: 6, loraDropout: 0.1 },
  dora: { r: 3, loraAlpha: 6, loraDropout: 0.1 },
  vera: { r: 20, veraDropout: 0 },
  miss: { r: 5, missDropout: 0.1 },
  hira: { r: 3, hiraDropout: 0.1 },
};
/** With biases, rows of 32 and 48; without, rows of 24, which fill no block. */
const MODELS = ['qwen2', 'smollm2'];

/**
 * Central differences along random directions, all layers at once: truncation and float32 leave at most 0.0003 between
 * gradients and slopes, a backward pass with weights 1% beside the forward pass's 0.02 and more.
 */
const SLOPES = { directions: 8, h: 1e-3, limit: 1e-3 };

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-quantized-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

const random = new Rng(7, 'quantized');
const micro: MicroBatch = {
  rows: 2,
  length: 10,
  ids: Int32Array.from({ length: 20 }, () => random.below(90)),
  lengths: Int32Array.of(10, 10),
  targetRows: Int32Array.from({ length: 18 }, (_, i) => i + Math.floor(i / 9)),
  targetIds: Int32Array.from({ length: 18 }, () => random.below(90)),
};

async function movedAdapter(name: string, options: object, model: BaseModel): Promise<Adapter> {
  const method = methodNamed(name);
  const config = method.parse('c', { targetModules: 'all-linear', ...options });
  const adapter = await createAdapter(method, config, model, 5);
  for (const [tensor, { data }] of adapter.values) {
    const rng = new Rng(9, tensor);
    for (let i = 0; i < data.length; i++) data[i] += 0.05 * rng.normal();
  }
  return adapter;
}

async function decoded(model: BaseModel, adapter?: Adapter, merged = false): Promise<Float32Array> {
  const step = await DecodeStep.create(runtime, model, adapter, { merged });
  const cache = new KvCache(model.config);
  await step.run([5, 17, 40], cache);
  const logits = await step.run([8], cache);
  await step.close();
  return logits;
}

describe.each(MODELS)('%s', (fixture) => {
  describe.each(quantFormats)('%s', (format: QuantFormat) => {
    let base: BaseModel;
    let quantized: BaseModel;
    let dequantized: BaseModel;
    beforeAll(async () => {
      base = await openModel(golden(`fixtures/${fixture}`));
      const folder = join(scratch, `${fixture}-${format}`);
      await quantizeFolder(base, folder, { format });
      quantized = await openModel(folder);
      await writeMergedModel(`${folder}-f32`, runtime, quantized, undefined);
      dequantized = await openModel(`${folder}-f32`);
    });

    it('holds every linear layer quantized and nothing else', () => {
      const linears = base.sites.filter((s) => s.kind === 'linear' && s.name !== 'lm_head');
      expect([...quantized.quantized.keys()]).toEqual(linears.map((s) => `${s.name}.weight`));
      expect(dequantized.quantized.size).toBe(0);
      expect([...dequantized.checkpoint.tensors.keys()].sort()).toEqual([...base.parameters.keys()].sort());
    });

    it('is near its base, and not at it', async () => {
      const name = quantized.sites.find((s) => s.name.endsWith('down_proj'))!.name;
      const [a, b] = await Promise.all([quantized, base].map((m) => m.checkpoint.read(`${name}.weight`)));
      expect(relativeError(a, b)).toBeLessThan({ nf4: 0.13, int8: 0.01, int4: 0.13 }[format]);
      expect(relativeError(a, b)).toBeGreaterThan(0);
    });

    it.each(Object.entries(METHODS))(
      '%s: loss and gradients are those of the dequantized weights',
      async (name, o) => {
        const results = [];
        for (const model of [quantized, dequantized]) {
          const step = await TrainStep.create(runtime, model, await movedAdapter(name, o, quantized));
          results.push(await step.run(micro, 1, { seed: 1, step: 1, micro: 0 }));
          await step.close();
        }
        const [got, expected] = results;
        expect(Math.abs(got.loss / expected.loss - 1)).toBeLessThan(1e-5);
        for (const [tensor, { data }] of expected.grads) {
          expect(relativeError(got.grads.get(tensor)!.data, data), tensor).toBeLessThan(2e-5);
        }
      },
    );

    it("lora: gradients are the slopes of this base's own loss, and those of the original weights are not", async () => {
      const adapter = await movedAdapter('lora', { r: 3, loraAlpha: 6 }, quantized);
      const gradientsOf = async (model: BaseModel) => {
        const step = await TrainStep.create(runtime, model, adapter);
        const { grads } = await step.run(micro, 1);
        await step.close();
        return grads;
      };
      const own = await gradientsOf(quantized);
      const originals = await gradientsOf(base);
      const step = await LossStep.create(runtime, quantized, adapter);
      const loss = async () => (await step.run(micro)).losses.data.reduce((sum, x) => sum + x, 0);
      for (const part of ['lora_A', 'lora_B']) {
        const trained = [...adapter.values].filter(([name]) => name.endsWith(part));
        const directions = Array.from({ length: SLOPES.directions }, (_, i) => {
          const rng = new Rng(i, part);
          return new Map(trained.map(([name, { data }]) => [name, data.map(() => rng.normal())]));
        });
        const slopes: number[] = [];
        for (const d of directions) slopes.push(await slopeAlong(d, adapter.values, SLOPES.h, loss));
        const error = (grads: typeof own) =>
          relativeError(
            directions.map((d) => [...d].reduce((sum, [name, v]) => sum + dot(v, grads.get(name)!.data), 0)),
            slopes,
          );
        expect(error(own), part).toBeLessThan(SLOPES.limit);
        expect(error(originals), part).toBeGreaterThan(10 * SLOPES.limit);
      }
      await step.close();
    });

    it('evaluates and generates as the dequantized weights do', async () => {
      const results = [];
      for (const model of [quantized, dequantized]) {
        const step = await LossStep.create(runtime, model, undefined);
        results.push((await step.run(micro)).lossSum);
        await step.close();
      }
      expect(Math.abs(results[0] / results[1] - 1)).toBeLessThan(1e-5);
      // Serving multiplies int8 and int4 in 8-bit arithmetic.
      const tolerance = format === 'nf4' ? 1e-5 : 0.03;
      expect(relativeError(await decoded(quantized), await decoded(dequantized))).toBeLessThan(tolerance);
    });

    it('merges into the dequantized weights, on the way and on disk', async () => {
      const adapter = await movedAdapter('dora', METHODS.dora!, quantized);
      const apart = await decoded(dequantized, adapter);
      expect(relativeError(await decoded(quantized, adapter, true), apart)).toBeLessThan(1e-4);
      const folder = join(scratch, `${fixture}-${format}-merged`);
      await writeMergedModel(folder, runtime, quantized, adapter);
      expect(relativeError(await decoded(await openModel(folder)), apart)).toBeLessThan(1e-4);
    });

    it('refuses to train what it holds quantized', async () => {
      const full = methodNamed('full');
      await expect(createAdapter(full, full.parse('c', {}), quantized)).rejects.toThrow(
        `method full trains model.layers.0.self_attn.q_proj.weight itself, which this base holds in ${format}`,
      );
    });
  });
});

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}
