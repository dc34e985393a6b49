import { readdirSync } from 'node:fs';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { combineIntoFolder } from '../../src/api/combine.js';
import { convert } from '../../src/api/convert.js';
import { resize } from '../../src/api/extract.js';
import { trainedFurther } from '../../src/api/furtherTraining.js';
import { readAdapter, writeAdapter } from '../../src/formats/peft.js';
import { adapterSites } from '../../src/formats/peftNames.js';
import { type Adapter, sitesOf } from '../../src/methods/adapter.js';
import { openModel } from '../../src/models/base.js';
import { Fixture, LIMITS, openSuite } from './fixture.js';
import { golden, runSchema } from './reference.js';

// Each folder of fixtures-options/ is an adapter with one of LoRA's options on one of the tiny models of fixtures/, with
// what PEFT computes (scripts/parity/make_option_fixtures.py).

const expectedSchema = runSchema.extend({ method: z.string() });

/** Biases of layers that have none in the model: PEFT cannot merge them either. */
const UNMERGEABLE = ['smollm2-lora-bias'];

/** Copies that PEFT writes under two names. */
const TWICE = ['llama2-saved-embeddings-and-head', 'llama2-resized-copies', 'smollm2-resized-copy'];

/** PEFT gives embedding and head one memory and an optimizer's state each, so that a step of it is two. */
const STEPPED_TWICE = ['smollm2-tied-targets', 'smollm2-tied-target-head', 'smollm2-tied-dora'];

const { runtime, scratch } = openSuite('options');
const cases = readdirSync(golden('fixtures-options'));

it('has its fixtures', () => {
  expect(cases.length).toBeGreaterThan(15);
});

it('refuses two matrices for a tied pair', async () => {
  const folder = join(scratch, 'two-matrices');
  await cp(golden('fixtures-options/smollm2-moved-embedding/adapter'), folder, { recursive: true });
  const path = join(folder, 'adapter_model.safetensors');
  const bytes = await readFile(path);
  const { tensors } = await readAdapter(folder);
  const saved = tensors.get('model.embed_tokens.base_weight')!;
  const at = bytes.indexOf(Buffer.from(saved.data.buffer, saved.data.byteOffset, 64));
  bytes.writeFloatLE(7, at);
  await writeFile(path, bytes);
  const model = await openModel(golden('fixtures/smollm2'));
  await expect(readAdapterFor(folder, model)).rejects.toThrow(
    'it has two matrices for model.embed_tokens and lm_head, which are one in this model',
  );
});

describe('layers that the configuration does not name', () => {
  const beyond = golden('fixtures-options/qwen2-beyond-targets/adapter');

  const left = ['model.layers.1.self_attn.q_proj'];
  const notice = `${beyond}: its configuration does not name model.layers.0.self_attn.q_proj and 2 more, so their matrices are left out, as in PEFT`;

  it('are left out, which is told', async () => {
    const notices: string[] = [];
    const model = await openModel(golden('fixtures/qwen2'));
    const adapter = await readAdapterFor(beyond, model, { onNotice: (message) => notices.push(message) });
    expect([...sitesOf(adapter.trainables)]).toEqual(left);
    expect(notices).toEqual([notice]);
  });

  it.each(['combine', 'resize', 'convert'])('are left out by %s, too', async (command) => {
    const [notices, output] = [[] as string[], join(scratch, `within-${command}`)];
    const onNotice = (message: string) => notices.push(message);
    if (command === 'combine') await combineIntoFolder([beyond], output, { onNotice });
    else if (command === 'resize') for await (const _ of resize(beyond, output, { r: 2, onNotice }));
    else await convert(beyond, output, { to: 'gguf', base: golden('fixtures/qwen2'), onNotice });
    expect(notices).toEqual([notice]);
    const model = await openModel(golden('fixtures/qwen2'));
    expect([...sitesOf((await readAdapterFor(output, model)).trainables)]).toEqual(left);
  });

  it('are refused where there are no others', async () => {
    const folder = join(scratch, 'no-targets');
    await cp(beyond, folder, { recursive: true });
    const path = join(folder, 'adapter_config.json');
    const config = JSON.parse(await readFile(path, 'utf8'));
    await writeFile(path, JSON.stringify({ ...config, target_modules: ['o_proj'] }));
    await expect(readAdapterFor(folder, await openModel(golden('fixtures/qwen2')))).rejects.toThrow(
      "its configuration's target_modules name none of the layers that it holds",
    );
  });
});

describe.each(cases)('%s', (name) => {
  let fixture: Fixture<z.output<typeof expectedSchema>>;
  let adapter: Adapter;
  beforeAll(async () => {
    fixture = await Fixture.open(runtime, `fixtures-options/${name}`, expectedSchema);
    adapter = await fixture.load();
  });

  it('is read and written back as PEFT wrote it', async () => {
    const folder = join(scratch, `${name}-adapter`);
    if (!TWICE.includes(name)) return fixture.expectSameFiles(folder);
    const read = await readAdapter(fixture.adapterFolder);
    await mkdir(folder);
    await writeAdapter(folder, read.config, read.tensors);
    expect(await readAdapter(folder)).toEqual(read);
  });

  it('loaded, saved and loaded it is the same', async () => {
    expect(adapter.method.name).toBe(fixture.expected.method);
    const saved = join(scratch, `${name}-saved`);
    const again = await fixture.saved(adapter, saved);
    expect(again.values).toEqual(adapter.values);
    expect(again.config).toEqual(adapter.config);
    const { tensors } = await readAdapter(saved);
    expect(new Set(adapterSites(tensors))).toEqual(sitesOf(adapter.trainables));
  });

  it('trained further it has the same tensors, in the same places', () => {
    const config = { targetModules: [...sitesOf(adapter.trainables)] };
    const further = () => trainedFurther(name, adapter, fixture.model, { config });
    // PEFT's defaults, of which this method could make no schedule.
    if (adapter.method.name === 'adalora')
      return expect(further).toThrow('target_r 8 is larger than init_r 4');
    const placed = ({ trainables }: Adapter) => trainables.map(({ init: _, ...trainable }) => trainable);
    return expect(placed(further())).toEqual(placed(adapter));
  });

  it('logits', async () => {
    expect(await fixture.logitsError('adapted_logits', adapter)).toBeLessThan(LIMITS.logits);
  });

  it('loss and the gradient of all that trains', () =>
    fixture.expectGradients(adapter, fixture.expected.loss));

  it('losses of 20 AdamW steps', async () => {
    if (STEPPED_TWICE.includes(name)) {
      const notices: string[] = [];
      const onNotice = (message: string) => notices.push(message);
      await readAdapterFor(fixture.adapterFolder, fixture.model, { onNotice });
      expect(notices).toEqual([expect.stringContaining('are read as two; trained further, they part')]);
      return;
    }
    await fixture.expectRun(await fixture.load(), fixture.expected);
  });

  it('a merged model, written and read back', async () => {
    const merging = fixture.mergedError('adapted_logits', adapter, join(scratch, name));
    if (UNMERGEABLE.includes(name)) {
      await expect(merging).rejects.toThrow(/has no bias in this model.*leave it unmerged/);
      return;
    }
    expect(await merging).toBeLessThan(LIMITS.logits);
  });
});
