import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import type { ChangeFigures, ModuleAnalysis } from '../../src/analysis/module.js';
import { analyze } from '../../src/api/analyze.js';
import { readJson } from '../../src/formats/io/node.js';
import { golden } from './reference.js';

// Each folder of fixtures-analysis/ has what NumPy finds in an adapter of PEFT (scripts/parity/make_analysis_fixtures.py).

const LIMIT = 1e-5;

const figures = z.object({
  rank: z.number(),
  values: z.array(z.number()),
  norm: z.number(),
  entropy: z.number(),
  stable: z.number(),
  of90: z.number(),
  of99: z.number(),
});
const side = z.object({ phi: z.array(z.array(z.number())), distance: z.number() });
const schema = z.object({
  base: z.string(),
  adapter: z.string().optional(),
  k: z.number(),
  epsilon: z.number(),
  modules: z.record(
    z.string(),
    z.object({
      change: figures,
      other: figures.optional(),
      relation: z.object({
        directions: z.number(),
        ofChange: z.number(),
        ofWeight: z.number(),
        weightNorm: z.number(),
        changeNorm: z.number(),
        amplification: z.number(),
      }),
      intruders: z.number(),
      a: side.optional(),
      b: side.optional(),
    }),
  ),
});

/** How far figures are from the reference's, beside the largest of those. */
function apart(ours: readonly number[], theirs: readonly number[]): number {
  expect(ours.length).toBe(theirs.length);
  const scale = Math.max(...theirs.map(Math.abs));
  return Math.max(...ours.map((x, i) => Math.abs(x - theirs[i]))) / scale;
}

function expectFigures(ours: ChangeFigures, theirs: z.output<typeof figures>): void {
  // A change that fills its matrix is told in full.
  expect(apart(ours.values.slice(0, theirs.values.length), theirs.values)).toBeLessThan(LIMIT);
  expect(ours).toMatchObject({ rank: theirs.rank, complete: true, of90: theirs.of90, of99: theirs.of99 });
  for (const key of ['norm', 'stable', 'entropy'] as const) {
    expect(Math.abs(ours[key]! / theirs[key] - 1), key).toBeLessThan(LIMIT);
  }
}

describe.each(readdirSync(golden('fixtures-analysis')))('%s', (name) => {
  const at = golden(`fixtures-analysis/${name}`);
  let expected: z.output<typeof schema>;
  let modules: Map<string, ModuleAnalysis>;
  beforeAll(async () => {
    expected = await readJson(join(at, 'expected.json'), schema);
    const { adapter, base, k, epsilon } = expected;
    const work = analyze(
      adapter ? golden(adapter) : join(at, 'adapter'),
      adapter ? undefined : join(at, 'other'),
      { model: golden(`fixtures/${base}`), intruderK: k, intruderEpsilon: epsilon },
    );
    let next = await work.next();
    while (!next.done) next = await work.next();
    modules = new Map(next.value.modules.map((module) => [module.name, module]));
  });

  it('all layers, and no others; those of which nothing is left change nothing', () => {
    const changed = [...modules.values()].filter(({ change }) => change.norm > 0);
    expect(changed.map((module) => module.name).sort()).toEqual(Object.keys(expected.modules).sort());
    for (const module of modules.values()) {
      if (changed.includes(module)) continue;
      const { rank, entropy, stable, of90, of99, share } = module.change;
      expect([rank, entropy, stable, of90, of99, share]).toEqual([0, 0, 0, 0, 0, 0]);
      expect(module).toMatchObject({
        relation: { directions: 0, ofChange: 0, amplification: null },
        intruders: { count: 0 },
      });
    }
  });

  it('singular values, effective ranks and norms', () => {
    for (const [site, theirs] of Object.entries(expected.modules)) {
      const { change, other } = modules.get(site)!;
      expectFigures(change, theirs.change);
      expect(Math.abs(change.share / (theirs.change.norm / theirs.relation.weightNorm) - 1)).toBeLessThan(
        LIMIT,
      );
      expect(other === undefined).toBe(theirs.other === undefined);
      if (other && theirs.other) expectFigures(other, theirs.other);
    }
  });

  it('how the change relates to W', () => {
    for (const [site, { relation: theirs }] of Object.entries(expected.modules)) {
      const { relation } = modules.get(site)!;
      expect(relation.directions).toBe(theirs.directions);
      for (const key of ['ofChange', 'ofWeight', 'weightNorm', 'changeNorm', 'amplification'] as const) {
        expect(Math.abs(relation[key]! / theirs[key] - 1), `${site} ${key}`).toBeLessThan(LIMIT);
      }
    }
  });

  it('intruder dimensions', () => {
    for (const [site, { intruders }] of Object.entries(expected.modules)) {
      expect(modules.get(site)!.intruders, site).toMatchObject({ count: intruders, against: null });
    }
  });

  it('what two adapters share', () => {
    for (const [site, theirs] of Object.entries(expected.modules)) {
      const { similarity } = modules.get(site)!;
      expect(similarity.with).toBe(theirs.a ? 'other' : 'random');
      for (const which of ['a', 'b'] as const) {
        const reference = theirs[which];
        if (!reference) continue;
        expect(apart(similarity[which].phi.flat(), reference.phi.flat())).toBeLessThan(LIMIT);
        expect(Math.abs(similarity[which].distance - reference.distance)).toBeLessThan(LIMIT);
      }
    }
  });
});
