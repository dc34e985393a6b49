import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { peftFileName } from '../../src/formats/peftNames.js';
import { type Adapter, createAdapter } from '../../src/methods/adapter.js';
import { methodNamed } from '../../src/methods/index.js';
import type { LoraConfig } from '../../src/methods/lora.js';
import { type EvaPlan, planEva } from '../../src/train/eva.js';
import { configOf, Fixture, LIMITS, openSuite, signed } from './fixture.js';
import { golden, openTensors, relativeError, runSchema } from './reference.js';

// EVA against PEFT's initialize_lora_eva_weights (scripts/parity/make_eva_fixtures.py).

const expectedSchema = runSchema.extend({
  method: z.string(),
  base: z.string(),
  options: z.record(z.string(), z.unknown()),
  ranks: z.record(z.string(), z.int()),
  rank_pattern: z.record(z.string(), z.int()),
  alpha_pattern: z.record(z.string(), z.number()),
});

const { runtime, scratch } = openSuite('eva');
const cases = readdirSync(golden('fixtures-eva'));

it('has its fixtures', () => expect(cases).toHaveLength(3));

describe.each(cases)('%s', (name) => {
  let fixture: Fixture<z.output<typeof expectedSchema>>;
  let started: Awaited<ReturnType<typeof openTensors>>;
  beforeAll(async () => {
    fixture = await Fixture.open(runtime, `fixtures-eva/${name}`, expectedSchema);
    started = await openTensors(join(fixture.folder, 'start.safetensors'));
  });

  const asked = (more: object = {}) => {
    const { method, options } = fixture.expected;
    return methodNamed(method).parse(name, { ...options, ...more }) as LoraConfig;
  };

  function plan(config = asked(), batchSize = 3, microBatchTokens = 100): Promise<EvaPlan> {
    const options = { batches: 10, batchSize, microBatchTokens, seed: 1 };
    return planEva(runtime, fixture.model, config, fixture.batch.examples(), options);
  }

  function start({ config, starts }: EvaPlan): Promise<Adapter> {
    return createAdapter(methodNamed(fixture.expected.method), config, fixture.model, 0, { starts });
  }

  /** PEFT has seen the batch twice when it stops, by which whitened directions are shorter. */
  const shorter = () => (asked().evaConfig?.whiten ? 2 ** -0.25 : 1);

  async function expectPeftsStart(found: EvaPlan): Promise<void> {
    const { ranks, rank_pattern, alpha_pattern } = fixture.expected;
    expect(Object.fromEntries(found.choices.map(({ site, r }) => [site, r]))).toEqual(ranks);
    expect(found.config.rankPattern).toEqual(rank_pattern);
    expect(found.config.alphaPattern).toEqual(alpha_pattern);
    const names = started.names.filter((key) => key.endsWith('lora_A.weight'));
    expect([...found.starts.keys()].map((tensor) => peftFileName(tensor)).sort()).toEqual(names.sort());
    for (const [tensor, { data, dims }] of found.starts) {
      const theirs = await started.read(peftFileName(tensor));
      const ours = data.map((x) => x * shorter());
      const { turn } = signed(dims, true, ours, theirs);
      expect(relativeError(ours, turn(theirs)), tensor).toBeLessThan(1e-3);
    }
  }

  it('starts and ranks are those of PEFT', async () => {
    const found = await plan();
    expect(found).toMatchObject({ batches: 1, settled: false });
    await expectPeftsStart(found);
  });

  it('whichever way the rows are split', async () => {
    const { evaConfig } = asked();
    const found = await plan(asked({ eva_config: { ...evaConfig, tau: 1 } }), 1, 8);
    expect(found).toMatchObject({ batches: 3, tokens: (await plan()).tokens });
    await expectPeftsStart(found);
  });

  it('training starts at the base, and goes on from there as in PEFT', async () => {
    const adapter = await start(await plan());
    expect(await fixture.logitsError('start_logits', adapter)).toBeLessThan(LIMITS.logits);
    expect(await fixture.logitsError('start_logits')).toBeLessThan(LIMITS.logits);
    for (const [tensor, { data }] of adapter.values) {
      if (tensor.endsWith('lora_A')) data.set(data.map((x) => x * shorter()));
    }
    await fixture.expectRun(adapter, fixture.expected);
    expect(await fixture.logitsError('trained_logits', adapter)).toBeLessThan(LIMITS.trained);

    const folder = join(scratch, name);
    const loaded = await fixture.saved(adapter, folder, `fixtures/${fixture.expected.base}`);
    expect(await fixture.logitsError('trained_logits', loaded)).toBeLessThan(LIMITS.trained);
    // PEFT has the shortest names that say the same.
    const { target_modules: _, ...theirs } = await configOf(fixture.adapterFolder);
    expect(await configOf(folder)).toMatchObject(theirs);
  });

  it("PEFT's adapter computes here what it computed there", async () => {
    expect(await fixture.logitsError('trained_logits', await fixture.load())).toBeLessThan(LIMITS.logits);
  });
});
