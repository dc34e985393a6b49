import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import type { Adapter } from '../../src/methods/adapter.js';
import { methodNamed } from '../../src/methods/index.js';
import { DecodeStep } from '../../src/serve/decode.js';
import { Fixture, LIMITS, openSuite } from './fixture.js';
import { golden, runSchema } from './reference.js';

// Each folder of fixtures-methods/ is an adapter of one method on one of the tiny models of fixtures/, with what
// PEFT computes (scripts/parity/make_method_fixtures.py).

const expectedSchema = runSchema.extend({
  method: z.string(),
  loraplus_lr_ratio: z.number().optional(),
  generations: z.array(z.object({ prompt: z.array(z.number()), ids: z.array(z.number()) })).optional(),
});

const { runtime, scratch } = openSuite('methods');
const cases = readdirSync(golden('fixtures-methods'));

it('has a fixture of every method that PEFT has', () => {
  for (const method of ['dora', 'alora', 'vera', 'miss', 'hira', 'loraplus', 'lorafa']) {
    expect(
      cases.some((name) => name.endsWith(`-${method}`)),
      method,
    ).toBe(true);
  }
});

describe.each(cases)('%s', (name) => {
  let fixture: Fixture<z.output<typeof expectedSchema>>;
  let adapter: Adapter;
  beforeAll(async () => {
    fixture = await Fixture.open(runtime, `fixtures-methods/${name}`, expectedSchema);
    adapter = await load();
  });

  /** The adapter under its method: one that is only a way to train is saved as LoRA. */
  async function load(): Promise<Adapter> {
    const loaded = await fixture.load();
    const { method: named, loraplus_lr_ratio: loraplusLrRatio } = fixture.expected;
    if (loaded.method.name === named) return loaded;
    const method = methodNamed(named);
    const ratio = loraplusLrRatio === undefined ? {} : { loraplusLrRatio };
    const config = method.parse(name, { ...(loaded.config as object), ...ratio });
    return { ...loaded, method, config, trainables: method.select(config, fixture.model) };
  }

  it('is read and written back as PEFT wrote it', () =>
    fixture.expectSameFiles(join(scratch, `${name}-adapter`)));

  it('logits', async () => {
    expect(await fixture.logitsError('adapted_logits', adapter)).toBeLessThan(LIMITS.logits);
  });

  it('loss and the gradient of all that trains', () =>
    fixture.expectGradients(adapter, fixture.expected.loss));

  it('losses of 20 AdamW steps', async () => {
    await fixture.expectRun(await load(), fixture.expected);
  });

  it('a merged model, written and read back', async () => {
    if (!adapter.method.card.merges) {
      const merging = fixture.mergedError('merged_logits', adapter, join(scratch, name));
      await expect(merging).rejects.toThrow('and cannot be merged: generate and eval take it as it is');
      return;
    }
    const error = await fixture.mergedError('merged_logits', adapter, join(scratch, name));
    expect(error).toBeLessThan(LIMITS.logits);
  });
});

describe.each(cases.filter((name) => name.includes('-alora')))('%s', (name) => {
  it('generates what PEFT does, called once, twice, at the end, at the beginning and not at all', async () => {
    const fixture = await Fixture.open(runtime, `fixtures-methods/${name}`, expectedSchema);
    const step = await DecodeStep.create(runtime, fixture.model, await fixture.load());
    expect(fixture.expected.generations).toHaveLength(6);
    for (const { prompt, ids } of fixture.expected.generations!) {
      const cache = step.newCache();
      const found: number[] = [];
      for (let next = prompt; found.length < ids.length; next = found.slice(-1)) {
        const logits = await step.run(next, cache);
        found.push(logits.indexOf(Math.max(...logits)));
      }
      expect(found, String(prompt)).toEqual(ids);
    }
    await step.close();
  });
});
