import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { matrix, multiply } from '../../src/base/linalg/matrix.js';
import { type AdapterTensor, readAdapter } from '../../src/formats/peft.js';
import { scalingOf } from '../../src/formats/peftConfig.js';
import { adapterSites } from '../../src/formats/peftNames.js';
import { readSafetensorsHeader, readTensorF32 } from '../../src/formats/safetensors.js';
import { combineAdapters, parseCombineOptions } from '../../src/methods/combine.js';

/** Made by scripts/parity/make_combine_fixtures.py. */
const fixtures = fileURLToPath(new URL('./fixtures-combine', import.meta.url));
const caseSchema = z.strictObject({
  adapters: z.array(z.string()),
  weights: z.array(z.number()),
  combination_type: z.string(),
  density: z.number().optional(),
  majority_sign_method: z.string().optional(),
  svd_rank: z.number().optional(),
});
const { cases } = z
  .object({ cases: z.record(z.string(), caseSchema) })
  .parse(JSON.parse(readFileSync(join(fixtures, 'expected.json'), 'utf8')));

const relative = (found: ArrayLike<number>, expected: Float32Array) => {
  let [off, size] = [0, 0];
  for (const [i, x] of expected.entries()) {
    off += (found[i] - x) ** 2;
    size += x ** 2;
  }
  return Math.sqrt(off / size);
};
const matrixOf = ({ shape: [rows, columns], data }: AdapterTensor) => matrix(rows, columns, data);

describe('as PEFT combines adapters', () => {
  it.each(Object.entries(cases))('%s', async (name, { adapters, weights, ...given }) => {
    const parts = await Promise.all(
      adapters.map(async (adapter, i) => ({
        name: adapter,
        adapter: await readAdapter(join(fixtures, adapter)),
        weight: weights[i],
      })),
    );
    const options = parseCombineOptions('case', {
      combination: given.combination_type,
      density: given.density,
      majoritySignMethod: given.majority_sign_method,
      svdRank: given.svd_rank,
    });
    const { config, tensors } = combineAdapters(parts, options);
    const header = await readSafetensorsHeader(join(fixtures, 'expected.safetensors'));
    const expected = [...header.tensors.values()].filter((t) => t.name.startsWith(`${name}.`));
    const sites = adapterSites(tensors);
    const bySvd = given.combination_type.endsWith('svd');
    expect(expected).toHaveLength(sites.length * (bySvd ? 1 : 2));
    for (const info of expected) {
      const key = info.name.slice(name.length + 1);
      const values = await readTensorF32(info);
      if (!bySvd) {
        expect(tensors.get(key)!.shape).toEqual(info.shape);
        expect(relative(tensors.get(key)!.data, values)).toBeLessThan(1e-6);
        continue;
      }
      const part = (end: string) => matrixOf(tensors.get(key.replace(/product$/, `lora_${end}`))!);
      expect(relative(multiply(part('B'), part('A')).data, values)).toBeLessThan(1e-5);
    }
    for (const site of sites) expect(scalingOf(config, site)).toBe(1);
  });
});
