import { readdirSync } from 'node:fs';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { embeddedModel } from '../../src/api/locate.js';
import { matrix, multiply, scaleColumns } from '../../src/base/linalg/matrix.js';
import { leading, svd } from '../../src/base/linalg/svd.js';
import { readAdapter } from '../../src/formats/peft.js';
import { peftFileName } from '../../src/formats/peftNames.js';
import { readSafetensorsHeader } from '../../src/formats/safetensors.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { methodNamed } from '../../src/methods/index.js';
import { openModel } from '../../src/models/base.js';
import { configOf, Fixture, LIMITS, openSuite, signed } from './fixture.js';
import { golden, openTensors, relativeError, runSchema } from './reference.js';

// Methods that start LoRA in a part of the base, against PEFT, which changes the base for them
// (scripts/parity/make_init_fixtures.py).

const expectedSchema = runSchema.extend({
  method: z.string(),
  options: z.record(z.string(), z.unknown()),
});

/** Each side takes a start out of the base that its own arithmetic gives, PEFT's in float32. */
const UNCONVERTED = 2 * LIMITS.logits;

const { runtime, scratch } = openSuite('init');
const cases = readdirSync(golden('fixtures-init'));

it('has a fixture of each', () => {
  for (const method of ['pissa', 'olora'])
    expect(cases.filter((name) => name.endsWith(`-${method}`))).toHaveLength(2);
});

describe.each(cases)('%s', (name) => {
  let fixture: Fixture<z.output<typeof expectedSchema>>;
  let started: Awaited<ReturnType<typeof openTensors>>;
  beforeAll(async () => {
    fixture = await Fixture.open(runtime, `fixtures-init/${name}`, expectedSchema);
    started = await openTensors(join(fixture.folder, 'start.safetensors'));
  });

  function start(): Promise<Adapter> {
    const method = methodNamed(fixture.expected.method);
    return createAdapter(method, method.parse(name, fixture.expected.options), fixture.model);
  }

  /** A singular vector and its negative are as good: how `tensor` of PEFT's start is turned into ours. */
  async function turnOf(tensor: string, adapter: Adapter) {
    const { dims, data } = adapter.values.get(tensor)!;
    const theirs = await started.read(peftFileName(tensor));
    return { ours: data, theirs, ...signed(dims, tensor.endsWith('lora_A'), data, theirs) };
  }

  it('A and B start as in PEFT, up to the sign of a direction', async () => {
    const adapter = await start();
    const trained = adapter.trainables.filter((t) => t.requiresGrad !== false).map((t) => t.name);
    expect(trained.map((tensor) => peftFileName(tensor)).sort()).toEqual([...started.names].sort());
    for (const tensor of trained) {
      const { ours, theirs, signs, turn } = await turnOf(tensor, adapter);
      expect(relativeError(ours, turn(theirs)), tensor).toBeLessThan(1e-4);
      if (fixture.expected.method === 'olora') expect(signs.every((sign) => sign === 1)).toBe(true);
    }
  });

  it('training starts at the base', async () => {
    expect(await fixture.logitsError('start_logits', await start())).toBeLessThan(LIMITS.logits);
    expect(await fixture.logitsError('start_logits')).toBeLessThan(LIMITS.logits);
  });

  it('loss and gradients', async () => {
    const adapter = await start();
    await fixture.expectGradients(adapter, fixture.expected.loss, {
      like: async (tensor, theirs) => (await turnOf(tensor, adapter)).turn(theirs),
      limit: 2e-4,
    });
  });

  it('losses of 20 AdamW steps, and a LoRA of twice the rank at their end', async () => {
    const adapter = await start();
    await fixture.expectRun(adapter, fixture.expected);
    expect(await fixture.logitsError('trained_logits', adapter)).toBeLessThan(LIMITS.trained);

    const saved = join(scratch, name);
    const loaded = await fixture.saved(adapter, saved, `fixtures/${fixture.expected.base}`);
    expect(loaded.method.name).toBe('lora');
    expect(await fixture.logitsError('trained_logits', loaded)).toBeLessThan(LIMITS.trained);
    const shapes = async (at: string) => {
      const { tensors: found } = await readSafetensorsHeader(join(at, 'adapter_model.safetensors'));
      return Object.fromEntries([...found].map(([key, { shape }]) => [key, shape]));
    };
    expect(await shapes(saved)).toEqual(await shapes(fixture.adapterFolder));
    const theirs = await configOf(fixture.adapterFolder);
    // PEFT has the names of modules in place of the rule that chose them.
    expect({ ...(await configOf(saved)), target_modules: 0 }).toMatchObject({
      ...theirs,
      target_modules: 0,
      lora_alpha: expect.closeTo(Number(theirs.lora_alpha), 9),
    });
  });

  it('an adapter that PEFT did not convert computes what PEFT computed, and is saved converted', async () => {
    const adapter = await fixture.load(join(fixture.folder, 'unconverted'));
    expect(adapter.method.name).toBe(fixture.expected.method);
    expect(await fixture.logitsError('trained_logits', adapter)).toBeLessThan(UNCONVERTED);
    const loaded = await fixture.saved(adapter, join(scratch, `${name}-converted`));
    expect(loaded.method.name).toBe('lora');
    expect(await fixture.logitsError('trained_logits', loaded)).toBeLessThan(UNCONVERTED);
  });

  it("PEFT's conversion computes here what PEFT computed, and is written back as it was", async () => {
    expect(await fixture.logitsError('trained_logits', await fixture.load())).toBeLessThan(LIMITS.logits);
    await fixture.expectSameFiles(join(scratch, `${name}-copy`));
  });
});

it("PiSSA's start is the exact one where singular values lie close together", async () => {
  const model = await openModel(embeddedModel);
  const site = model.sites.find(({ name }) => name === 'model.layers.0.mlp.up_proj')!;
  const method = methodNamed('pissa');
  const config = method.parse('c', { r: 4, loraAlpha: 4, targetModules: ['layers.0.mlp.up_proj'] });
  const { values } = await createAdapter(method, config, model);
  const [b, a] = ['lora_B', 'lora_A'].map((part) => values.get(`${site.name}.${part}`)!.data);
  const weight = await model.checkpoint.read(`${site.name}.weight`);
  const { u, s, vt } = leading(svd(matrix(site.out, site.in, weight)), 4);
  const exact = multiply(scaleColumns(u, s), vt).data;
  const found = multiply(matrix(site.out, 4, b), matrix(4, site.in, a)).data;
  expect(relativeError(found, exact)).toBeLessThan(1e-6);
});

it('refuses an adapter with a start in the base that is not converted, where the base is changed in two places', async () => {
  const folder = join(scratch, 'tied-head');
  await cp(golden('fixtures-options/smollm2-head/adapter'), folder, { recursive: true });
  const path = join(folder, 'adapter_config.json');
  const config = JSON.parse(await readFile(path, 'utf8'));
  await writeFile(path, JSON.stringify({ ...config, init_lora_weights: 'olora' }));
  const model = await openModel(golden('fixtures/smollm2'));
  await expect(readAdapterFor(folder, model)).rejects.toThrow(
    /"olora" with DoRA, on an embedding or a head tied to one, .* is not read; save it with/,
  );
  await expect(readAdapter(folder)).rejects.toThrow(/"olora" took a part out of the base/);
});

it('refuses a rank that its matrix does not allow', async () => {
  const model = await openModel(golden('fixtures/smollm2'));
  const select = (method: string) => () =>
    methodNamed(method).select(methodNamed(method).parse('c', { r: 9, targetModules: ['k_proj'] }), model);
  const message =
    'r 9 is larger than model.layers.0.self_attn.k_proj allows: its matrix is 8 × 24; lower it to 8';
  expect(select('pissa')).toThrow(message);
  expect(select('olora')).toThrow(message);
  expect(() => methodNamed('lora').parse('c', { init_lora_weights: 'pissa_niter_4' })).toThrow(
    'c: key "init_lora_weights": "pissa_niter_4" is a method of its own here, "pissa"; expected true, false, ',
  );
  expect(() => methodNamed('olora').parse('c', { lora_bias: true })).toThrow('c: key "lora_bias"');
  expect(() => methodNamed('pissa').parse('c', { init_lora_weights: 'gaussian' })).toThrow(
    'this method starts A and B in its own way; leave it out',
  );
  for (const method of ['pissa', 'olora', 'adalora'].map(methodNamed)) {
    const config = method.parse('c', { lora_alpha: 3 });
    expect(method.parse('c', JSON.parse(JSON.stringify(config)))).toEqual(config);
  }
});
