import { readdirSync } from 'node:fs';
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAdapterFor } from '../../src/api/adapterFile.js';
import { inspect } from '../../src/api/inspect.js';
import type { Adapter } from '../../src/methods/adapter.js';
import { openModel } from '../../src/models/base.js';
import { configOf, Fixture, LIMITS, openSuite } from './fixture.js';
import { golden } from './reference.js';

// Adapters of stacked experts, which PEFT writes with transformers 5 (scripts/parity/make_stacked_fixtures.py): read as those
// of single experts, which compute the same.

const schema = z.object({ base: z.string() });
const { runtime, scratch } = openSuite('stacked');
const cases = readdirSync(golden('fixtures-stacked'));

describe.each(cases)('%s', (name) => {
  let fixture: Fixture<z.output<typeof schema>>;
  let adapter: Adapter;
  beforeAll(async () => {
    fixture = await Fixture.open(runtime, `fixtures-stacked/${name}`, schema);
    adapter = await fixture.load();
  });

  it('logits with the adapter', async () => {
    expect(await fixture.logitsError('adapted_logits', adapter)).toBeLessThan(LIMITS.logits);
  });

  it('a merged model, written and read back', async () => {
    const error = await fixture.mergedError('merged_logits', adapter, join(scratch, name));
    expect(error).toBeLessThan(LIMITS.logits);
  });

  it('saved and loaded it computes the same', async () => {
    const again = await fixture.saved(adapter, join(scratch, `${name}-saved`));
    expect(await fixture.logitsError('adapted_logits', again)).toBeLessThan(LIMITS.logits);
  });

  it('is described without a base', async () => {
    const described = await inspect(fixture.adapterFolder);
    if (described.kind !== 'adapter') throw new Error('it is an adapter');
    expect(described.modules.length).toBeGreaterThan(1);
  });
});

describe('what is not of stacked experts', () => {
  const changed = async (to: string, keys: object): Promise<string> => {
    const folder = join(scratch, to);
    await cp(golden('fixtures-stacked/mixtral-all-linear/adapter'), folder, { recursive: true });
    await writeFile(
      join(folder, 'adapter_config.json'),
      JSON.stringify({ ...(await configOf(folder)), ...keys }),
    );
    return folder;
  };
  const load = async (folder: string) => readAdapterFor(folder, await openModel(golden('fixtures/mixtral')));

  it.each([
    [{ r: 8 }, 'lora_A [16, 48] and lora_B [32, 16] of model.layers.0.mlp.experts.down_proj'],
    [
      { r: 8, rank_pattern: { gate_up_proj: 16, down_proj: 8, '.*': 4 } },
      'by its rank it is for 2 experts, and the model has 4',
    ],
    [{ r: 3 }, 'of model.layers.0.mlp.experts.down_proj are not of experts of rank 3'],
    [
      { target_parameters: ['gate_up_proj'] },
      'target_parameters does not name what "base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight" is of',
    ],
    [
      { target_parameters: ['experts.bias'] },
      'target_parameters "experts.bias" is not implemented, expected gate_up_proj and',
    ],
    [{ layers_to_transform: [0] }, 'layers_to_transform beside target_parameters is not implemented'],
    [
      { rank_pattern: { 'layers.1.mlp.experts.down_proj': 2, gate_up_proj: 8 } },
      'model.layers.1.mlp.experts.down_proj has a rank or alpha of its own',
    ],
  ])('%j', async (keys, message) => {
    const folder = await changed(
      `changed-${Object.values(keys).join('-').length}-${JSON.stringify(keys).length}`,
      keys,
    );
    await expect(load(folder)).rejects.toThrow(message);
  });

  it('a model without experts', async () => {
    const folder = golden('fixtures-stacked/mixtral-all-linear/adapter');
    const llama = await openModel(golden('fixtures/mistral'));
    await expect(readAdapterFor(folder, llama)).rejects.toThrow('it is for 4 experts, and the model has 0');
  });
});
