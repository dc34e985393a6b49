import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { peftFileName } from '../../src/formats/peftNames.js';
import { adalora } from '../../src/methods/adalora.js';
import { createAdapter } from '../../src/methods/adapter.js';
import { methodNamed } from '../../src/methods/index.js';
import { configOf, Fixture, LIMITS, openSuite, worst } from './fixture.js';
import { golden, openTensors, runSchema } from './reference.js';

// AdaLoRA against PEFT's, from the same start (scripts/parity/make_adalora_fixtures.py).

const expectedSchema = runSchema.extend({
  options: z.record(z.string(), z.unknown()),
  penalties: z.array(z.number()),
  ranks: z.array(z.record(z.string(), z.string()).nullable()),
});

const { runtime, scratch } = openSuite('adalora');
const cases = readdirSync(golden('fixtures-adalora'));
it('has its fixtures', () => expect(cases).toEqual(['qwen2', 'smollm2']));

describe.each(cases)('%s', (name) => {
  let fixture: Fixture<z.output<typeof expectedSchema>>;
  beforeAll(async () => {
    fixture = await Fixture.open(runtime, `fixtures-adalora/${name}`, expectedSchema);
  });

  it('20 steps: losses, penalties, gradient norms, and what is pruned after each', async () => {
    const { expected, folder, model } = fixture;
    const method = methodNamed('adalora');
    const adapter = await createAdapter(method, method.parse(name, expected.options), model);
    const started = await openTensors(join(folder, 'start.safetensors'));
    expect([...adapter.values.keys()].map((key) => peftFileName(key)).sort()).toEqual(
      [...started.names].sort(),
    );
    for (const [key, value] of adapter.values) value.data.set(await started.read(peftFileName(key)));
    const pruned: unknown[] = [];
    const steps = await fixture.expectRun(adapter, expected, () => {
      const left = adapter.state.values.ranks as Record<string, boolean[]> | undefined;
      const digits = Object.entries(left ?? {}).map(([site, ranks]) => [site, ranks.map(Number).join('')]);
      pruned.push(left ? Object.fromEntries(digits) : null);
    });
    expect(worst(steps, 'penalty', expected.penalties)).toBeLessThan(LIMITS.losses);
    expect(pruned).toEqual(expected.ranks);
    expect(await fixture.logitsError('trained_logits', adapter)).toBeLessThan(LIMITS.trained);

    const saved = join(scratch, name);
    const loaded = await fixture.saved(adapter, saved, `fixtures/${expected.base}`);
    const [ours, theirs] = await Promise.all([saved, fixture.adapterFolder].map(configOf));
    expect({ ...ours, target_modules: 0 }).toEqual({ ...theirs, target_modules: 0 });
    expect(await fixture.logitsError('trained_logits', loaded)).toBeLessThan(LIMITS.trained);
  });

  it("PEFT's file computes the same, merged too, and is written back as it was", async () => {
    const loaded = await fixture.load();
    expect(loaded.method.name).toBe('adalora');
    expect(await fixture.logitsError('trained_logits', loaded)).toBeLessThan(LIMITS.logits);
    const merged = await fixture.mergedError('merged_logits', loaded, join(scratch, `${name}-merged`));
    expect(merged).toBeLessThan(LIMITS.logits);

    await fixture.expectSameFiles(join(scratch, `${name}-copy`));
    const again = join(scratch, `${name}-again`);
    const reloaded = await fixture.saved(loaded, again);
    const { rank_pattern } = await configOf(fixture.adapterFolder);
    expect(await configOf(again)).toMatchObject({ rank_pattern });
    expect(await fixture.logitsError('trained_logits', reloaded)).toBeLessThan(LIMITS.logits);
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
