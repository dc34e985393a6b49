/** What the analyses of all layers come to. */
import type { ModuleAnalysis, Place } from './module.js';

/** A layer's change as far as the sums need it. */
export type Weighed = Place & { change: { norm: number } };

/** Where an adapter's weight sits: shares of Σ‖ΔW‖_F². They add up to 1, or are 0 where there is no change. */
export interface Shares {
  /** Of each numbered layer, in order. */
  layers: { layer: number; share: number }[];
  /** Of each role, the largest first. */
  roles: { role: string; share: number }[];
}

export function sharesOf(modules: readonly Weighed[]): Shares {
  const total = modules.reduce((sum, { change }) => sum + change.norm ** 2, 0);
  const shares = <K>(key: (module: Weighed) => K | undefined): [K, number][] => {
    const sums = new Map<K, number>();
    for (const module of modules) {
      const at = key(module);
      if (at !== undefined) sums.set(at, (sums.get(at) ?? 0) + module.change.norm ** 2);
    }
    return [...sums].map(([at, sum]) => [at, total > 0 ? sum / total : 0]);
  };
  return {
    layers: shares(({ layer }) => layer)
      .map(([layer, share]) => ({ layer, share }))
      .sort((a, b) => a.layer - b.layer),
    roles: shares(({ role }) => role)
      .map(([role, share]) => ({ role, share }))
      .sort((a, b) => b.share - a.share),
  };
}

/** Medians over the layers of one role. */
export interface RoleSummary {
  role: string;
  modules: number;
  /** Lowest and highest rank. */
  rank: [number, number];
  /** σ₁ */
  largest: number;
  entropy: number | null;
  stable: number;
  of90: number | null;
  of99: number | null;
  /** ‖ΔW‖_F / ‖W‖_F */
  share: number;
  /** ‖UᵀWVᵀ‖_F over ΔW's directions, W's own and random ones, and what ΔW amplifies the first by. */
  ofChange: number;
  ofWeight: number;
  ofRandom: number;
  amplification: number | null;
  /** Intruder dimensions, of all of them together. */
  intruders: number;
  /** φ(1, 1) and φ of all directions, from A and from B; null where there are none. */
  phi: Record<'a' | 'b', { first: number | null; all: number | null }>;
  /** Grassmann distance as a part of the most that it could be. */
  distance: Record<'a' | 'b', number | null>;
}

/** A summary of each role, in the order in which they come. */
export function rolesOf(modules: readonly ModuleAnalysis[]): RoleSummary[] {
  const groups = new Map<string, ModuleAnalysis[]>();
  for (const module of modules) groups.set(module.role, [...(groups.get(module.role) ?? []), module]);
  return [...groups].map(([role, group]) => summaryOf(role, group));
}

/** The same of one group of layers. */
export function summaryOf(role: string, group: readonly ModuleAnalysis[]): RoleSummary {
  const of = (figure: (module: ModuleAnalysis) => number | null | undefined) => medianOf(group.map(figure));
  const ranks = group.map(({ change }) => change.rank);
  const side = (name: 'a' | 'b') => ({
    first: of(({ similarity }) => similarity[name].phi[0]?.[0]),
    all: of(({ similarity }) => similarity[name].phi.at(-1)?.at(-1)),
  });
  const apart = (name: 'a' | 'b') =>
    of(({ similarity: { [name]: s } }) => (s.most > 0 ? s.distance / s.most : null));
  return {
    role,
    modules: group.length,
    rank: [Math.min(...ranks), Math.max(...ranks)],
    largest: of(({ change }) => change.values[0] ?? 0)!,
    entropy: of(({ change }) => change.entropy),
    stable: of(({ change }) => change.stable)!,
    of90: of(({ change }) => change.of90),
    of99: of(({ change }) => change.of99),
    share: of(({ change }) => change.share)!,
    ofChange: of(({ relation }) => relation.ofChange)!,
    ofWeight: of(({ relation }) => relation.ofWeight)!,
    ofRandom: of(({ relation }) => relation.ofRandom)!,
    amplification: of(({ relation }) => relation.amplification),
    intruders: group.reduce((sum, { intruders }) => sum + intruders.count, 0),
    phi: { a: side('a'), b: side('b') },
    distance: { a: apart('a'), b: apart('b') },
  };
}

/** The median of what is known; null where that is less than all. */
export function medianOf(figures: readonly (number | null | undefined)[]): number | null {
  const known = figures.filter((x): x is number => typeof x === 'number').sort((a, b) => a - b);
  if (known.length < figures.length || known.length === 0) return null;
  const half = known.length >> 1;
  return known.length % 2 === 1 ? known[half] : (known[half - 1] + known[half]) / 2;
}
