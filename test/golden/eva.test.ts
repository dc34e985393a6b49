import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readJson } from '../../src/formats/io/node.js';
import { peftFileName } from '../../src/formats/peft.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { loadAdapterFolder, writeAdapterFolder } from '../../src/methods/files.js';
import { methodNamed } from '../../src/methods/index.js';
import type { LoraConfig } from '../../src/methods/lora.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { type EvaPlan, planEva } from '../../src/train/eva.js';
import { trainLoop } from '../../src/train/loop.js';
import {
  golden,
  logitsOf,
  openTensors,
  ReferenceBatch,
  relativeError,
  runSchema,
  takeRows,
  trainOptions,
  worstRelativeError,
} from './reference.js';

// EVA against PEFT's initialize_lora_eva_weights (scripts/parity/make_eva_fixtures.py).

const expectedSchema = runSchema.extend({
  method: z.string(),
  base: z.string(),
  options: z.record(z.string(), z.unknown()),
  ranks: z.record(z.string(), z.int()),
  rank_pattern: z.record(z.string(), z.int()),
  alpha_pattern: z.record(z.string(), z.number()),
});

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-golden-eva-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

const cases = readdirSync(golden('fixtures-eva'));

it('has its fixtures', () => expect(cases).toHaveLength(3));

describe.each(cases)('%s', (name) => {
  const folder = golden(`fixtures-eva/${name}`);
  let model: BaseModel;
  let batch: ReferenceBatch;
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let started: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;

  beforeAll(async () => {
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
    const base = golden(`fixtures/${expected.base}`);
    model = await openModel(base);
    batch = await ReferenceBatch.read(join(base, 'batch.json'));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
    started = await openTensors(join(folder, 'start.safetensors'));
  });

  const configOf = (more: object = {}) =>
    methodNamed(expected.method).parse(name, { ...expected.options, ...more }) as LoraConfig;

  function plan(config = configOf(), batchSize = 3, microBatchTokens = 100): Promise<EvaPlan> {
    const options = { batches: 10, batchSize, microBatchTokens, seed: 1 };
    return planEva(runtime, model, config, batch.examples(), options);
  }

  async function start({ config, starts }: EvaPlan): Promise<Adapter> {
    return createAdapter(methodNamed(expected.method), config, model, 0, { starts });
  }

  /** PEFT has seen the batch twice when it stops, by which whitened directions are shorter. */
  const shorter = () => (configOf().evaConfig?.whiten ? 2 ** -0.25 : 1);

  async function expectPeftsStart(found: EvaPlan): Promise<void> {
    expect(Object.fromEntries(found.choices.map(({ site, r }) => [site, r]))).toEqual(expected.ranks);
    expect(found.config.rankPattern).toEqual(expected.rank_pattern);
    expect(found.config.alphaPattern).toEqual(expected.alpha_pattern);
    const names = started.names.filter((key) => key.endsWith('lora_A.weight'));
    expect([...found.starts.keys()].map((tensor) => peftFileName(tensor)).sort()).toEqual(names.sort());
    for (const [tensor, { data, dims }] of found.starts) {
      const theirs = await started.read(peftFileName(tensor));
      expect(theirs).toHaveLength(data.length);
      for (let k = 0; k < dims[0]; k++) {
        const [a, b] = [data, theirs].map((rows) => rows.subarray(k * dims[1], (k + 1) * dims[1]));
        const sign = Math.sign(a.reduce((sum, x, i) => sum + x * b[i], 0));
        expect(
          relativeError(
            a.map((x) => x * sign * shorter()),
            b,
          ),
          `${tensor} ${k}`,
        ).toBeLessThan(2e-3);
      }
    }
  }

  async function logitsError(on: Adapter | undefined, reference: string): Promise<number> {
    const wanted = takeRows(await tensors.read(reference), model.config.vocabSize, batch.realRows);
    return relativeError(await logitsOf(runtime, model, on, batch), wanted);
  }

  it('starts and ranks are those of PEFT', async () => {
    const found = await plan();
    expect(found).toMatchObject({ batches: 1, settled: false });
    await expectPeftsStart(found);
  });

  it('whichever way the rows are split', async () => {
    const { evaConfig } = configOf();
    const found = await plan(configOf({ evaConfig: { ...evaConfig, tau: 1 } }), 1, 8);
    expect(found).toMatchObject({ batches: 3, tokens: (await plan()).tokens });
    await expectPeftsStart(found);
  });

  it('training starts at the base, and its losses are those from the start of PEFT', async () => {
    const adapter = await start(await plan());
    expect(await logitsError(adapter, 'start_logits')).toBeLessThan(1e-5);
    expect(await logitsError(undefined, 'start_logits')).toBeLessThan(1e-5);
    for (const { data } of [...adapter.values].flatMap(([key, value]) =>
      key.endsWith('lora_A') ? [value] : [],
    )) {
      for (let i = 0; i < data.length; i++) data[i] *= shorter();
    }
    const examples = batch.examples();
    const options = trainOptions(expected.recipe, examples.length);
    const losses: number[] = [];
    for await (const event of trainLoop({ runtime, model, adapter, examples, options })) {
      if (event.kind === 'step') losses.push(event.loss);
    }
    expect(worstRelativeError(losses, expected.losses)).toBeLessThan(1e-3);
    expect(await logitsError(adapter, 'trained_logits')).toBeLessThan(2e-3);

    const saved = join(scratch, name);
    await mkdir(saved);
    await writeAdapterFolder(saved, adapter, `fixtures/${expected.base}`);
    const loaded = await loadAdapterFolder(saved, model);
    expect(await logitsError(loaded, 'trained_logits')).toBeLessThan(2e-3);
    const config = async (at: string) => {
      const { target_modules: _, ...keys } = await readJson(
        join(at, 'adapter_config.json'),
        z.looseObject({}),
      );
      return keys;
    };
    expect(await config(saved)).toMatchObject(await config(join(folder, 'adapter')));
  });

  it("PEFT's adapter computes here what it computed there", async () => {
    const loaded = await loadAdapterFolder(join(folder, 'adapter'), model);
    expect(await logitsError(loaded, 'trained_logits')).toBeLessThan(1e-5);
  });
});
