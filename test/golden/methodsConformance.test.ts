import { mkdtempSync, rmSync } from 'node:fs';
import { cp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { multiply, toFloat32, transpose } from '../../src/base/linalg/matrix.js';
import { Rng } from '../../src/base/rng.js';
import { sizeOf } from '../../src/base/tensor.js';
import { readJson } from '../../src/formats/io/node.js';
import { writeFolderAtomic } from '../../src/formats/io/write.js';
import type { QuantFormat } from '../../src/formats/quant/index.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { trainableCount } from '../../src/methods/counts.js';
import { writeAdapterFolder } from '../../src/methods/files.js';
import { type MethodName, methodNamed, methods } from '../../src/methods/index.js';
import type { LoraConfig } from '../../src/methods/lora.js';
import { mergedTensors, writeMergedModel } from '../../src/methods/merge.js';
import { productsOf } from '../../src/methods/products.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { isInnerLinear, type Site } from '../../src/models/model.js';
import { quantizeFolder } from '../../src/models/quantizing.js';
import { DecodeStep } from '../../src/serve/decode.js';
import type { MicroBatch } from '../../src/train/data/batches.js';
import type { Example } from '../../src/train/data/encode.js';
import { planEva } from '../../src/train/eva.js';
import { type TrainEvent, trainLoop } from '../../src/train/loop.js';
import { causalLm } from '../../src/train/objectives/causalLm.js';
import { parseTrainOptions } from '../../src/train/options.js';
import { LossStep, TrainStep } from '../../src/train/step.js';
import { slopeAlong } from './finiteDifferences.js';
import { golden } from './reference.js';

// What every method of the table has to hold, on tiny models: one entry below is all that a new method needs.

interface Subject {
  /** Options with which it is tried. */
  options: object;
  /** How many parameters train, by the method's formula. */
  count(sites: readonly Site[], model: BaseModel): number;
  /** What its base is quantized to; absent: it is not. */
  base?: QuantFormat;
  /** What the saved adapter is loaded as. */
  loadedAs?: MethodName;
  /** Parts whose gradient leaves something out on purpose, so that finite differences do not give it. */
  inexact?: readonly string[];
  /** Not for a model without biases. */
  needsBiases?: true;
  /** Starts out of the data. */
  planned?: true;
  /** Not for a model with experts: what the refusal says. */
  refusesExperts?: string;
}

const all = { targetModules: 'all-linear' };
const queryAndValue = { targetModules: ['q_proj', 'v_proj'] };
const total = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const loraCount = (r: number) => (sites: readonly Site[]) => total(sites.map((s) => r * (s.in + s.out)));

/** L̂·(2·d·r + r + d), of adapter layers that stand so many in a block. */
const adapterCount =
  (r: number, inBlock: number) =>
  (_: readonly Site[], { config: { layers, hiddenSize: d } }: BaseModel) =>
    inBlock * layers * (2 * d * r + r + d);

/** In each of the rows below, and in what is decoded. */
const INVOCATION = [17, 40];

/** All but the probe, which trains the head of a task alone (taskMethods.test.ts). */
const subjects: Record<Exclude<MethodName, 'probe'>, Subject> = {
  lora: {
    options: { ...all, r: 3, loraAlpha: 6, loraDropout: 0.1, useRslora: true },
    count: loraCount(3),
    loadedAs: 'lora',
  },
  loraplus: {
    options: { ...all, r: 2, loraplusLrRatio: 4 },
    count: loraCount(2),
    loadedAs: 'lora',
  },
  lorafa: {
    options: { ...all, r: 4 },
    count: (sites) => total(sites.map((s) => 4 * s.out)),
    loadedAs: 'lora',
  },
  dora: {
    options: { ...all, r: 3, loraAlpha: 6, loraDropout: 0.1 },
    count: (sites) => total(sites.map((s) => 3 * (s.in + s.out) + s.out)),
    loadedAs: 'dora',
    // The norm counts as a constant; test/golden/methods.test.ts has these gradients from PEFT.
    inexact: ['lora_A', 'lora_B'],
  },
  alora: {
    options: { ...all, r: 3, loraAlpha: 6, loraDropout: 0.1, aloraInvocationTokens: INVOCATION },
    count: loraCount(3),
    loadedAs: 'alora',
    refusesExperts:
      'alora has to see all tokens of a row, and model.layers.0.block_sparse_moe.experts.0.w1 is',
  },
  adalora: {
    options: { ...all, initR: 3, targetR: 1, tinit: 1, loraAlpha: 12, loraDropout: 0.1 },
    count: (sites) => total(sites.map((s) => 3 * (s.in + s.out + 1))),
    loadedAs: 'adalora',
  },
  pissa: {
    options: { ...all, r: 3, loraAlpha: 6, loraDropout: 0.1, useRslora: true },
    count: loraCount(3),
    loadedAs: 'lora',
  },
  olora: {
    options: { ...all, r: 2, loraAlpha: 4, loraDropout: 0.1, rankPattern: { k_proj: 3 } },
    count: (sites) => total(sites.map((s) => (s.name.endsWith('k_proj') ? 3 : 2) * (s.in + s.out))),
    loadedAs: 'lora',
  },
  loftq: {
    options: { ...all, r: 2, loraAlpha: 6, loraDropout: 0.1, rankPattern: { k_proj: 3 } },
    base: 'nf4',
    count: (sites) => total(sites.map((s) => (s.name.endsWith('k_proj') ? 3 : 2) * (s.in + s.out))),
    loadedAs: 'lora',
  },
  vera: {
    options: { ...all, r: 20, veraDropout: 0.1 },
    count: (sites) => total(sites.map((s) => 20 + s.out)),
    loadedAs: 'vera',
  },
  miss: {
    // Of the inputs some fill a shard only in part.
    options: { ...all, r: 5, missDropout: 0.1 },
    count: (sites) => total(sites.map((s) => 5 * s.out)),
    loadedAs: 'miss',
  },
  hira: {
    options: { ...all, r: 3, hiraDropout: 0.1 },
    count: loraCount(3),
    loadedAs: 'hira',
  },
  houlsby: {
    options: { bottleneckSize: 5, nonLinearity: 'tanh' },
    count: adapterCount(5, 2),
    loadedAs: 'houlsby',
    refusesExperts: 'houlsby stands behind the MLP of a layer, and the model has experts there',
  },
  pfeiffer: {
    options: { bottleneckSize: 6, nonLinearity: 'silu' },
    count: adapterCount(6, 1),
    loadedAs: 'pfeiffer',
    refusesExperts: 'pfeiffer stands behind the MLP of a layer, and the model has experts there',
  },
  lin: {
    options: { bottleneckSize: 4, nonLinearity: 'relu' },
    count: (_, { config: { layers, hiddenSize: d } }) => layers * (2 * d * 4 + 4 + d + 2 * d),
    loadedAs: 'lin',
    refusesExperts: 'lin stands behind the MLP of a layer, and the model has experts there',
  },
  prompt: {
    options: { numVirtualTokens: 4 },
    count: (_, { config }) => config.hiddenSize * 4,
    loadedAs: 'prompt',
  },
  prefix: {
    options: { numVirtualTokens: 5 },
    count: (_, { config: { layers, kvHeads, headDim } }) => 2 * layers * kvHeads * headDim * 5,
    loadedAs: 'prefix',
  },
  bitfit: {
    options: {},
    needsBiases: true,
    count: (_, { parameters }) =>
      total([...parameters].map(([name, shape]) => (name.endsWith('bias') ? sizeOf(shape) : 0))),
  },
  full: {
    options: {},
    count: (_, { parameters }) => total([...parameters.values()].map(sizeOf)),
  },
};

/** Options that put more than a layer's two matrices into an adapter. */
const variants: Record<string, Subject & { method: MethodName }> = {
  'lora, with biases, norms and tokens': {
    method: 'lora',
    options: {
      ...queryAndValue,
      r: 2,
      bias: 'all',
      modulesToSave: ['norm'],
      trainableTokenIndices: [5, 17, 40],
    },
    count: (sites, model) =>
      total(onlyOf(sites, 'q_proj', 'v_proj').map((s) => 2 * (s.in + s.out))) +
      total(ownSizes(model, /(bias|norm\.weight)$/)) +
      3 * model.config.hiddenSize,
    loadedAs: 'lora',
  },
  'lora, of embedding and head': {
    method: 'lora',
    options: { r: 3, loraAlpha: 6, targetModules: ['embed_tokens', 'lm_head', 'o_proj'] },
    count: (sites, { config: c }) =>
      total(onlyOf(sites, 'o_proj').map((s) => 3 * (s.in + s.out))) + 2 * 3 * (c.vocabSize + c.hiddenSize),
    loadedAs: 'lora',
  },
  'dora, of embedding and head': {
    method: 'dora',
    options: { r: 2, targetModules: ['embed_tokens', 'lm_head'] },
    count: (_, { config: c }) => 2 * 2 * (c.vocabSize + c.hiddenSize) + c.vocabSize + c.hiddenSize,
    loadedAs: 'dora',
    inexact: ['lora_A', 'lora_B', 'lora_embedding_A', 'lora_embedding_B'],
  },
  'lora, with a whole embedding': {
    method: 'lora',
    options: {
      ...queryAndValue,
      r: 2,
      modulesToSave: ['embed_tokens'],
      excludeModules: ['layers.0.self_attn.v_proj'],
    },
    count: (sites, { config: c }) =>
      total(onlyOf(sites, 'q_proj', '1.self_attn.v_proj').map((s) => 2 * (s.in + s.out))) +
      c.vocabSize * c.hiddenSize,
    loadedAs: 'lora',
  },
  'lora, with its own biases': {
    method: 'lora',
    options: {
      ...queryAndValue,
      r: 2,
      loraDropout: 0.1,
      loraBias: true,
      bias: 'lora_only',
      layersToTransform: [1],
    },
    count: (sites) => total(onlyOf(sites, '1.self_attn.q_proj', '1.self_attn.v_proj').map(biasedCount)),
    loadedAs: 'lora',
    needsBiases: true,
  },
  'vera, with biases and norms': {
    method: 'vera',
    options: { r: 6, bias: 'lora_only', modulesToSave: ['norm'], targetModules: ['k_proj'] },
    count: (sites, model) =>
      total(onlyOf(sites, 'k_proj').map((s) => 6 + 2 * s.out)) + total(ownSizes(model, /norm\.weight$/)),
    loadedAs: 'vera',
    needsBiases: true,
  },
  'miss, mini': {
    method: 'miss',
    options: { ...all, r: 6, miniR: 8, initWeights: 'mini', missDropout: 0.1 },
    count: (sites) => 6 * 8 * sites.length,
    loadedAs: 'miss',
  },
  'miss, bat': {
    method: 'miss',
    options: { ...all, r: 4, initWeights: 'bat' },
    count: (sites) => total(sites.map((s) => 4 * s.out)),
    loadedAs: 'miss',
  },
  'miss, with biases and norms': {
    method: 'miss',
    options: { r: 4, bias: 'lora_only', modulesToSave: ['norm'], targetModules: ['k_proj'] },
    count: (sites, model) =>
      total(onlyOf(sites, 'k_proj').map((s) => 5 * s.out)) + total(ownSizes(model, /norm\.weight$/)),
    loadedAs: 'miss',
    needsBiases: true,
  },
  'hira, of embedding and head': {
    method: 'hira',
    options: { r: 2, targetModules: ['embed_tokens', 'lm_head'], excludeModules: ['q_proj'] },
    count: (_, { config: c }) => 2 * 2 * (c.vocabSize + c.hiddenSize),
    loadedAs: 'hira',
  },
  'lora, in the leading inputs': {
    method: 'lora',
    options: { r: 3, targetModules: ['o_proj'], initLoraWeights: 'eva' },
    count: (sites) => total(onlyOf(sites, 'o_proj').map((s) => 3 * (s.in + s.out))),
    loadedAs: 'lora',
    planned: true,
  },
  'lora, in the least directions': {
    method: 'lora',
    options: { r: 3, targetModules: ['v_proj', 'embed_tokens'], initLoraWeights: 'mica' },
    count: (sites, { config: c }) => total(onlyOf(sites, 'v_proj').map((s) => 3 * s.in)) + 3 * c.vocabSize,
    loadedAs: 'lora',
  },
};

const onlyOf = (sites: readonly Site[], ...ends: string[]) =>
  sites.filter((s) => ends.some((end) => s.name.endsWith(`.${end}`)));
const ownSizes = ({ parameters }: BaseModel, names: RegExp) =>
  [...parameters].flatMap(([name, shape]) => (names.test(name) ? [sizeOf(shape)] : []));
const biasedCount = (s: Site) => 2 * (s.in + s.out) + 2 * s.out;

/** With biases and a tied head; without both, in float16; among the slow tests with experts, in bfloat16. */
const MODELS = process.env.LOWRANK_SUITE === 'slow' ? ['mixtral'] : ['qwen2', 'mistral'];
const hasExperts = (folder: string) => folder === 'mixtral';
const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-conformance-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

const random = new Rng(7, 'conformance');
/** Random tokens, with INVOCATION from one on. */
function called(length: number, from: number): Int32Array {
  const ids = Int32Array.from({ length }, () => random.below(90));
  ids.set(INVOCATION, from);
  return ids;
}

const examples: Example[] = [9, 6, 11, 7].map((length, line) => ({
  ids: called(length, 4),
  supervised: Uint8Array.from({ length }, (_, i) => Number(i > 1)),
  line,
}));

/** Two rows of ten tokens, each with the next one to predict. */
const micro: MicroBatch = {
  rows: 2,
  length: 10,
  ids: Int32Array.of(...called(10, 3), ...called(10, 5)),
  lengths: Int32Array.of(10, 10),
  targetRows: Int32Array.from({ length: 18 }, (_, i) => i + Math.floor(i / 9)),
  targetIds: Int32Array.from({ length: 18 }, () => random.below(90)),
};

describe.each(MODELS)('%s', (folder) => {
  let original: BaseModel;
  beforeAll(async () => {
    original = await openModel(hasExperts(folder) ? await sentToAll(folder) : golden(`fixtures/${folder}`));
  });

  it('bitfit needs biases', () => {
    const select = () => methods.bitfit.select({}, original);
    if (folder === 'qwen2') expect(select()).toHaveLength(6);
    else expect(select).toThrow('bitfit trains biases and this model has none');
  });

  const named = Object.entries(subjects).map(
    ([method, subject]) => [method, { method, ...subject }] as const,
  );
  const possible = [...named, ...Object.entries(variants)].filter(
    ([, { needsBiases }]) => !needsBiases || folder === 'qwen2',
  );
  const isRefused = ({ refusesExperts }: Subject) => hasExperts(folder) && refusesExperts !== undefined;

  it.each(possible.filter(([, subject]) => isRefused(subject)))('%s is refused', (_, subject) => {
    const method = methodNamed(subject.method);
    const select = () => method.select(method.parse('c', subject.options), original);
    expect(select).toThrow(subject.refusesExperts);
  });

  describe.each(possible.filter(([, subject]) => !isRefused(subject)))('%s', (name, subject) => {
    const method = methodNamed(subject.method);
    let model: BaseModel;
    beforeAll(async () => {
      model = original;
      if (!subject.base) return;
      const quantized = join(scratch, `${folder}-${name}-base`);
      await quantizeFolder(original, quantized, { format: subject.base });
      model = { ...(await openModel(quantized)), original: (tensor) => original.checkpoint.read(tensor) };
    });
    const dropout = Object.keys(subject.options).find((key) => key.endsWith('Dropout'));
    const withoutDropout = dropout && hasExperts(folder) ? { [dropout]: 0 } : {};
    const config = (more: object = {}) =>
      method.parse('c', { ...subject.options, ...withoutDropout, ...more });
    async function start(): Promise<Adapter> {
      if (!subject.planned) return createAdapter(method, config(), model, 5);
      const order = { batches: 1, batchSize: examples.length, microBatchTokens: 64, seed: 5 };
      const plan = await planEva(runtime, model, config() as LoraConfig, examples, order);
      return createAdapter(method, plan.config, model, 5, plan);
    }

    /** An adapter in the middle of its training: every value that trains moved at random. */
    async function moved(): Promise<Adapter> {
      const adapter = await start();
      for (const { name: tensor, requiresGrad } of adapter.trainables) {
        if (requiresGrad === false) continue;
        const rng = new Rng(9, tensor);
        const { data } = adapter.values.get(tensor)!;
        for (let i = 0; i < data.length; i++) data[i] += 0.1 * rng.normal();
      }
      return adapter;
    }

    async function logits(of: BaseModel, adapter?: Adapter): Promise<Float32Array> {
      const step = await LossStep.create(runtime, of, adapter, { logits: true });
      const result = await step.run(micro);
      await step.close();
      return result.logits!.data;
    }

    /** What decoded gives, by the whole-sequence graph. */
    async function lastLogits(adapter: Adapter): Promise<Float32Array> {
      const step = await LossStep.create(runtime, model, adapter, { logits: true });
      const one = Int32Array.of(3);
      const ids = Int32Array.of(5, 17, 40, 8);
      const result = await step.run({
        rows: 1,
        length: 4,
        ids,
        lengths: Int32Array.of(4),
        targetRows: one,
        targetIds: one,
      });
      await step.close();
      return result.logits!.data;
    }

    async function decoded(adapter: Adapter, merged: boolean): Promise<Float32Array> {
      const step = await DecodeStep.create(runtime, model, adapter, { merged });
      const result = await step.run([5, 17, 40, 8], step.newCache());
      await step.close();
      return result;
    }

    it('its factors, where its change is a product, multiply to what merging adds', async () => {
      const adapter = await moved();
      const products = productsOf(adapter, model);
      expect(products.size > 0).toBe(method.factors?.(adapter.config) !== undefined);
      const { sites } = model;
      const { tensors } = products.size > 0 ? mergedTensors(runtime, model, adapter) : { tensors: [] };
      for (const [site, factors] of products) {
        const { kind, tiedTo } = sites.find(({ name: own }) => own === site)!;
        const { b, a } = factors();
        const product = kind === 'embedding' ? transpose(multiply(b, a)) : multiply(b, a);
        const before = await model.checkpoint.read(`${tiedTo ?? site}.weight`);
        const after = await tensors.find((tensor) => tensor.name === `${site}.weight`)!.values();
        const change = after.map((x, i) => x - before[i]);
        expect(difference(toFloat32(product), change), site).toBeLessThan(1e-5);
      }
    });

    it('step 0 equals the base', async () => {
      const error = difference(await logits(model, await start()), await logits(model));
      if (method.startsAtBase) expect(error).toBeLessThan(1e-6);
      else expect(error).toBeGreaterThan(1e-4);
    });

    it('the selected tensors, and only they, have gradients, which finite differences confirm', async () => {
      const adapter = await moved();
      const training = await TrainStep.create(runtime, model, withDropout(adapter, 0));
      const { grads } = await training.run(micro, 1);
      await training.close();
      const selected = adapter.trainables.filter((t) => t.requiresGrad !== false);
      expect([...grads.keys()].sort()).toEqual(selected.map((t) => t.name).sort());

      const step = await LossStep.create(runtime, model, adapter);
      for (const { name: tensor } of onePerPart(selected)) {
        if (subject.inexact?.some((part) => tensor.endsWith(part))) continue;
        const gradient = grads.get(tensor)!.data;
        const { element, along } = steepest(gradient);
        const loss = async () => (await step.run(micro)).lossSum;
        const slope = await slopeAlong(new Map([[tensor, along]]), adapter.values, 5e-3, loss);
        expect(Math.abs(slope - gradient[element]), `${tensor} ${element}: ${slope}`).toBeLessThan(
          0.02 * Math.abs(gradient[element]) + 2e-3,
        );
      }
      await step.close();
    });

    it('gradient checkpointing changes no gradient, dropout included', async () => {
      const adapter = await moved();
      const [kept, again] = await Promise.all(
        [false, true].map(async (gradientCheckpointing) => {
          const step = await TrainStep.create(runtime, model, adapter, { gradientCheckpointing });
          const result = await step.run(micro, 1, { seed: 3, step: 1, micro: 0 });
          await step.close();
          return { ...result, nodes: step.nodeCount };
        }),
      );
      expect(again.nodes).toBeGreaterThan(kept.nodes);
      expect(Math.abs(again.loss - kept.loss)).toBeLessThan(1e-6 * kept.loss);
      for (const [tensor, { data }] of kept.grads) {
        expect(difference(again.grads.get(tensor)!.data, data), tensor).toBeLessThan(1e-6);
      }
    });

    if (dropout && hasExperts(folder))
      it('refuses dropout', async () => {
        const adapter = withDropout(await moved(), 0.1);
        await expect(TrainStep.create(runtime, model, adapter)).rejects.toThrow('dropout is not for experts');
      });
    else if (dropout)
      it('dropout drops, and next to none of it changes next to nothing', async () => {
        const lossAt = async (probability: number) => {
          const adapter = withDropout(await moved(), probability);
          const step = await TrainStep.create(runtime, model, adapter);
          const { loss } = await step.run(micro, 1, { seed: 3, step: 1, micro: 0 });
          await step.close();
          return loss;
        };
        const whole = await lossAt(0);
        expect(Math.abs((await lossAt(1e-5)) / whole - 1)).toBeLessThan(1e-4);
        expect(Math.abs((await lossAt(0.5)) / whole - 1)).toBeGreaterThan(2e-4);
      });

    /** The same values under a configuration with another probability of dropout. */
    function withDropout(adapter: Adapter, probability: number): Adapter {
      return dropout ? { ...adapter, config: config({ [dropout]: probability }) } : adapter;
    }

    it('saved and loaded it computes the same', async () => {
      const adapter = await moved();
      const saved = join(scratch, `${folder}-${name}`);
      const before = await logits(model, adapter);
      if (!subject.loadedAs) {
        await writeMergedModel(saved, runtime, model, adapter, { dtype: 'float32' });
        expect(await logits(await openModel(saved))).toEqual(before);
        return;
      }
      await writeFolderAtomic(saved, (temporary) => writeAdapterFolder(temporary, adapter, 'base'));
      const loaded = await readAdapterFor(saved, model);
      expect(loaded.method.name).toBe(subject.loadedAs);
      expect(await logits(model, loaded)).toEqual(before);
    });

    it(method.card.merges ? 'merged it computes the same' : 'is not merged, and says what is', async () => {
      const adapter = await moved();
      if (!method.card.merges) {
        await expect(decoded(adapter, true)).rejects.toThrow(/no matrix .* lora is nearest/);
        const refused = writeMergedModel(join(scratch, 'refused'), runtime, model, adapter, {});
        await expect(refused).rejects.toThrow(/no matrix .* lora is nearest/);
        expect(difference(await decoded(adapter, false), await lastLogits(adapter))).toBeLessThan(1e-4);
        return;
      }
      expect(difference(await decoded(adapter, true), await decoded(adapter, false))).toBeLessThan(1e-4);
      const folderOfMerged = join(scratch, `${folder}-${name}-merged`);
      await writeMergedModel(folderOfMerged, runtime, model, adapter, { dtype: 'float32' });
      const merged = await logits(await openModel(folderOfMerged));
      expect(difference(merged, await logits(model, adapter))).toBeLessThan(1e-4);
    });

    it('stopped and resumed it has the losses of a whole run', async () => {
      const run = join(scratch, `${folder}-${name}-run`);
      const options = parseTrainOptions('o', { maxSteps: 5, batchSize: 2, learningRate: 5e-3, saveSteps: 2 });
      const losses = async (extra: object, until = Number.POSITIVE_INFINITY) => {
        const found: number[] = [];
        const events: AsyncGenerator<TrainEvent> = trainLoop({
          runtime,
          objective: causalLm,
          model,
          adapter: await start(),
          examples,
          options,
          ...extra,
        });
        for await (const event of events) {
          if (event.kind === 'step') found.push(event.loss);
          if (event.kind === 'checkpoint' && event.step >= until) break;
        }
        return found;
      };
      const whole = await losses({});
      const first = await losses({ run }, 2);
      expect(first).toHaveLength(2);
      expect([...first, ...(await losses({ run, resume: true }))]).toEqual(whole);
      expect(whole.at(-1)).not.toBe(whole[0]);
    });

    it('trains as many parameters as its formula says', async () => {
      const sites = model.sites.filter(isInnerLinear);
      const adapter = await start();
      expect(trainableCount(adapter.trainables)).toBe(subject.count(sites, model));
      for (const { name: tensor, shape } of adapter.trainables) {
        const { dims, data } = adapter.values.get(tensor)!;
        expect(dims, tensor).toEqual(shape);
        expect(data, tensor).toHaveLength(sizeOf(shape));
        expect(data.every(Number.isFinite), tensor).toBe(true);
      }
    });
  });
});

/** A model that sends each token to all experts: what it computes has no jumps, which finite differences would trip over. */
async function sentToAll(name: string): Promise<string> {
  const folder = join(scratch, name);
  await cp(golden(`fixtures/${name}`), folder, { recursive: true });
  const place = join(folder, 'config.json');
  const config = await readJson(place, z.looseObject({ num_local_experts: z.number() }));
  await writeFile(place, JSON.stringify({ ...config, num_experts_per_tok: config.num_local_experts }));
  return folder;
}

/** ‖a − b‖ / ‖b‖. */
function difference(a: Float32Array, b: Float32Array): number {
  const norm = (v: Float32Array) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
  return norm(a.map((x, i) => x - b[i])) / norm(b);
}

/** The first tensor of each kind: parts of sites, or the model's own by their last names. */
function onePerPart<T extends { name: string }>(tensors: readonly T[]): T[] {
  const kind = ({ name }: T) => name.replace(/^.*\d+\./, '');
  return [...new Map(tensors.map((t) => [kind(t), t])).values()];
}

/** The element of a tensor's largest gradient, and one step along it alone. */
function steepest(gradient: Float32Array): { element: number; along: Float32Array } {
  const element = gradient.reduce((best, g, i) => (Math.abs(g) > Math.abs(gradient[best]) ? i : best), 0);
  return { element, along: new Float32Array(gradient.length).fill(1, element, element + 1) };
}
