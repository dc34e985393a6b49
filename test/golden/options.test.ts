import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readJson, writeFolderAtomic } from '../../src/formats/io/node.js';
import { adapterSites, peftFileName, readAdapter, writeAdapter } from '../../src/formats/peft.js';
import { NodeRuntime } from '../../src/graph/runtime/node.js';
import { type Adapter, sitesOf } from '../../src/methods/adapter.js';
import { loadAdapterFolder, writeAdapterFolder } from '../../src/methods/files.js';
import { writeMergedModel } from '../../src/methods/merge.js';
import { type BaseModel, openModel } from '../../src/models/base.js';
import { TrainStep } from '../../src/train/step.js';
import { golden, logitsOf, openTensors, ReferenceBatch, relativeError, takeRows } from './reference.js';

// Each folder of fixtures-options/ is an adapter with one of LoRA's options on one of the tiny models of fixtures/, with
// what PEFT computes (scripts/parity/make_option_fixtures.py).

const expectedSchema = z.object({ method: z.string(), base: z.string(), loss: z.number() });

/** Biases of layers that have none in the model: PEFT cannot merge them either. */
const UNMERGEABLE = ['smollm2-lora-bias'];

const runtime = new NodeRuntime();
const scratch = mkdtempSync(join(tmpdir(), 'lowrank-golden-options-'));
afterAll(async () => {
  await runtime.close();
  rmSync(scratch, { recursive: true });
});

const cases = readdirSync(golden('fixtures-options'));

it('has its fixtures', () => {
  expect(cases.length).toBeGreaterThan(15);
});

it("refuses the adapter of an embedding that is not the base's", async () => {
  const folder = join(scratch, 'other-base');
  await cp(golden('fixtures-options/smollm2-embedding/adapter'), folder, { recursive: true });
  const path = join(folder, 'adapter_model.safetensors');
  const bytes = await readFile(path);
  const { tensors } = await readAdapter(folder);
  const saved = tensors.get('model.embed_tokens.base_weight')!;
  const at = bytes.indexOf(Buffer.from(saved.data.buffer, saved.data.byteOffset, 64));
  bytes.writeFloatLE(7, at);
  await writeFile(path, bytes);
  const model = await openModel(golden('fixtures/smollm2'));
  await expect(loadAdapterFolder(folder, model)).rejects.toThrow(
    'it holds another matrix of model.embed_tokens',
  );
});

describe.each(cases)('%s', (name) => {
  const folder = golden(`fixtures-options/${name}`);
  let model: BaseModel;
  let adapter: Adapter;
  let batch: ReferenceBatch;
  let tensors: Awaited<ReturnType<typeof openTensors>>;
  let expected: z.output<typeof expectedSchema>;

  beforeAll(async () => {
    expected = await readJson(join(folder, 'expected.json'), expectedSchema);
    const base = golden(`fixtures/${expected.base}`);
    model = await openModel(base);
    adapter = await loadAdapterFolder(join(folder, 'adapter'), model);
    batch = await ReferenceBatch.read(join(base, 'batch.json'));
    tensors = await openTensors(join(folder, 'expected.safetensors'));
  });

  async function logitsError(of: BaseModel, on: Adapter | undefined): Promise<number> {
    const logits = await logitsOf(runtime, of, on, batch);
    const wanted = takeRows(await tensors.read('adapted_logits'), model.config.vocabSize, batch.realRows);
    return relativeError(logits, wanted);
  }

  it('is read and written back as PEFT wrote it', async () => {
    const [theirs, ours] = [join(folder, 'adapter'), join(scratch, `${name}-adapter`)];
    const { config, tensors: read } = await readAdapter(theirs);
    await mkdir(ours);
    await writeAdapter(ours, config, read);
    const [mine, original] = await Promise.all(
      [ours, theirs].map((at) => readFile(join(at, 'adapter_model.safetensors'))),
    );
    expect(mine.equals(original)).toBe(true);
    const json = (at: string) => readJson(join(at, 'adapter_config.json'), z.unknown());
    expect(await json(ours)).toEqual(await json(theirs));
  });

  it('loaded, saved and loaded it is the same', async () => {
    expect(adapter.method.name).toBe(expected.method);
    const saved = join(scratch, `${name}-saved`);
    await writeFolderAtomic(saved, (temporary) => writeAdapterFolder(temporary, adapter, 'base'));
    const again = await loadAdapterFolder(saved, model);
    expect(again.values).toEqual(adapter.values);
    expect(again.config).toEqual(adapter.config);
    const { tensors: read } = await readAdapter(saved);
    expect(new Set(adapterSites(read))).toEqual(sitesOf(adapter.trainables));
  });

  it('logits', async () => {
    expect(await logitsError(model, adapter)).toBeLessThan(1e-5);
  });

  it('loss and the gradient of all that trains', async () => {
    const step = await TrainStep.create(runtime, model, adapter);
    const micro = batch.supervised();
    const { loss, grads } = await step.run(micro, 1 / micro.targetRows.length);
    await step.close();
    expect(Math.abs(loss - expected.loss) / expected.loss).toBeLessThan(1e-5);

    const reference = tensors.names.filter((n) => n.startsWith('grad.'));
    const sites = sitesOf(adapter.trainables);
    const inFile = (trainable: string) => `grad.${peftFileName(trainable, sites)}`;
    expect([...grads.keys()].map(inFile).sort()).toEqual(reference.sort());
    for (const [trainable, grad] of grads) {
      const error = relativeError(grad.data, await tensors.read(inFile(trainable)));
      expect(error, trainable).toBeLessThan(1e-4);
    }
  });

  it('a merged model, written and read back', async () => {
    const merged = join(scratch, name);
    const writing = writeMergedModel(merged, runtime, model, adapter, { dtype: 'float32' });
    if (UNMERGEABLE.includes(name)) {
      await expect(writing).rejects.toThrow(/has no bias in this model.*leave it unmerged/);
      return;
    }
    await writing;
    expect(await logitsError(await openModel(merged), undefined)).toBeLessThan(1e-5);
  });
});
