import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { convert } from '../../src/api/convert.js';
import { matrix, multiply, toFloat32 } from '../../src/base/linalg/matrix.js';
import { readJson } from '../../src/formats/io/node.js';
import { readAdapter } from '../../src/formats/peft.js';
import { adapterKey } from '../../src/formats/peftNames.js';
import { openSuite } from './fixture.js';
import { golden, openTensors, relativeError } from './reference.js';

// What PEFT's convert_to_lora makes of adapters of fixtures-methods/ (scripts/parity/make_convert_fixtures.py).

const expectedSchema = z.object({
  base: z.string(),
  rank: z.number(),
  energy: z.number(),
  ranks: z.record(z.string(), z.number()),
});
const { scratch } = openSuite('convert');

const cases = readdirSync(golden('fixtures-convert'));
const adapterOf = (name: string) => golden(`fixtures-methods/${name}/adapter`);
// Of these PEFT keeps the rank, whatever is asked for.
const isProductOfMiss = (name: string) => /-miss(_mini)?$/.test(name);

describe('the product of each module, at a rank', () => {
  it.each(cases)('%s', async (name) => {
    const expected = await readJson(golden(`fixtures-convert/${name}/expected.json`), expectedSchema);
    const products = await openTensors(golden(`fixtures-convert/${name}/expected.safetensors`));
    const output = join(scratch, `${name}-rank`);
    const given = isProductOfMiss(name) ? {} : { r: expected.rank };
    const base = golden(`fixtures/${expected.base}`);
    await convert(adapterOf(name), output, { to: 'lora', base, ...given });
    const { tensors } = await readAdapter(output);
    expect(products.names).toHaveLength(7);
    for (const site of products.names) {
      const [b, a] = (['lora_B', 'lora_A'] as const).map((part) => {
        const { shape, data } = tensors.get(adapterKey(site, part))!;
        return matrix(shape[0], shape[1], data);
      });
      expect(relativeError(toFloat32(multiply(b, a)), await products.read(site)), site).toBeLessThan(1e-5);
    }
  });
});

describe('the ranks that hold a share of the energy', () => {
  it.each(cases.filter((name) => !isProductOfMiss(name)))('%s', async (name) => {
    const expected = await readJson(golden(`fixtures-convert/${name}/expected.json`), expectedSchema);
    const { base, energy, ranks } = expected;
    const output = join(scratch, `${name}-energy`);
    const { lora } = await convert(adapterOf(name), output, {
      to: 'lora',
      base: golden(`fixtures/${base}`),
      energy,
    });
    expect(Object.fromEntries(lora!.layers.map(({ site, r }) => [site, r]))).toEqual(ranks);
  });
});
