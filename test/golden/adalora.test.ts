import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readJson } from '../../src/formats/io/node.js';
import { peftFileName, readAdapter, writeAdapter } from '../../src/formats/peft.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { adalora } from '../../src/methods/adalora.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { loadAdapterFolder, writeAdapterFolder } from '../../src/methods/files.js';
import { methodNamed } from '../../src/methods/index.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { trainLoop } from '../../src/train/loop.js';
import { LossStep } from '../../src/train/step.js';
import {
  golden,
  openTensors,
  ReferenceBatch,
  relativeError,
  runSchema,
  takeRows,
  trainOptions,
  worstRelativeError,
} from './reference.js';

// AdaLoRA against PEFT's, from the same start (scripts/parity/make_adalora_fixtures.py).

const expectedSchema = runSchema.omit({ loss: true, learning_rates: true }).extend({
  options: z.record(z.string(), z.unknown()),
  penalties: z.array(z.number()),
  ranks: z.array(z.record(z.string(), z.string()).nullable()),
});

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-golden-adalora-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

const cases = readdirSync(golden('fixtures-adalora'));
it('has its fixtures', () => expect(cases).toEqual(['qwen2', 'smollm2']));

describe.each(cases)('%s', (name) => {
  const folder = golden(`fixtures-adalora/${name}`);
  let model: BaseModel;
  let batch: ReferenceBatch;
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;

  beforeAll(async () => {
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
    const base = golden(`fixtures/${name}`);
    model = await openModel(base);
    batch = await ReferenceBatch.read(join(base, 'batch.json'));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
  });

  async function logitsError(of: BaseModel, on: Adapter | undefined, reference: string): Promise<number> {
    const step = await LossStep.create(runtime, of, on, { logits: true });
    const { logits } = await step.run(batch.everywhere());
    await step.close();
    const wanted = takeRows(await tensors.read(reference), model.config.vocabSize, batch.realRows);
    return relativeError(logits!.data, wanted);
  }

  it('20 steps: losses, penalties, gradient norms, and what is pruned after each', async () => {
    const method = methodNamed('adalora');
    const adapter = await createAdapter(method, method.parse(name, expected.options), model);
    const started = await openTensors(join(folder, 'start.safetensors'));
    expect([...adapter.values.keys()].map((key) => peftFileName(key)).sort()).toEqual(
      [...started.names].sort(),
    );
    for (const [key, value] of adapter.values) value.data.set(await started.read(peftFileName(key)));
    const examples = batch.examples();
    const options = trainOptions(expected.recipe, examples.length);
    const [losses, penalties, norms]: number[][] = [[], [], []];
    const pruned: unknown[] = [];
    for await (const event of trainLoop({ runtime, model, adapter, examples, options })) {
      if (event.kind !== 'step') continue;
      losses.push(event.loss);
      penalties.push(event.penalty!);
      norms.push(event.gradNorm);
      const left = adapter.state.values.ranks as Record<string, boolean[]> | undefined;
      const digits = Object.entries(left ?? {}).map(([site, ranks]) => [site, ranks.map(Number).join('')]);
      pruned.push(left ? Object.fromEntries(digits) : null);
    }
    expect(worstRelativeError(losses, expected.losses)).toBeLessThan(1e-3);
    expect(worstRelativeError(penalties, expected.penalties)).toBeLessThan(1e-3);
    expect(worstRelativeError(norms, expected.grad_norms)).toBeLessThan(1e-2);
    expect(pruned).toEqual(expected.ranks);
    expect(await logitsError(model, adapter, 'trained_logits')).toBeLessThan(2e-3);

    const saved = join(scratch, name);
    await mkdir(saved);
    await writeAdapterFolder(saved, adapter, `fixtures/${name}`);
    const config = (at: string) => readJson(join(at, 'adapter_config.json'), z.looseObject({}));
    const theirs = await config(join(folder, 'adapter'));
    expect({ ...(await config(saved)), target_modules: 0 }).toEqual({ ...theirs, target_modules: 0 });
    expect(await logitsError(model, await loadAdapterFolder(saved, model), 'trained_logits')).toBeLessThan(
      2e-3,
    );
  });

  it("PEFT's file computes the same, merged too, and is written back as it was", async () => {
    const theirs = join(folder, 'adapter');
    const loaded = await loadAdapterFolder(theirs, model);
    expect(loaded.method.name).toBe('adalora');
    expect(await logitsError(model, loaded, 'trained_logits')).toBeLessThan(1e-5);
    const merged = join(scratch, `${name}-merged`);
    await writeMergedModel(merged, runtime, model, loaded, { dtype: 'float32' });
    expect(await logitsError(await openModel(merged), undefined, 'merged_logits')).toBeLessThan(1e-5);

    const { config, tensors: read } = await readAdapter(theirs);
    const ours = join(scratch, `${name}-copy`);
    await mkdir(ours);
    await writeAdapter(ours, config, read);
    const [mine, original] = await Promise.all(
      [ours, theirs].map((at) => readFile(join(at, 'adapter_model.safetensors'))),
    );
    expect(mine.equals(original)).toBe(true);
    const again = join(scratch, `${name}-again`);
    await mkdir(again);
    await writeAdapterFolder(again, loaded, `fixtures/${name}`);
    expect((await readAdapter(again)).config).toMatchObject({
      rank_pattern: (config as { rank_pattern: unknown }).rank_pattern,
    });
    expect(await logitsError(model, await loadAdapterFolder(again, model), 'trained_logits')).toBeLessThan(
      1e-5,
    );
  });
});

describe('refused', () => {
  it.each([
    [{ init_r: 2, target_r: 3 }, 'c: target_r 3 is larger than init_r 2: ranks only fall'],
    [{ beta1: 1 }, 'c: key "beta1"'],
    [{ r: 4 }, 'c: unknown key "r"'],
  ])('%j', (config, message) => {
    expect(() => adalora.parse('c', config)).toThrow(message);
  });
  it('a schedule without room to prune', () => {
    const config = adalora.parse('c', { tinit: 5, tfinal: 5 });
    expect(() => adalora.onStart!(config, { steps: 10 })).toThrow(
      'adalora prunes between the first 5 (tinit) and the last 5 (tfinal) steps, and the run has 10',
    );
    adalora.onStart!(config, { steps: 11 });
  });
});
