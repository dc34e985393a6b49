/** PEFT's short way to say which layers an adapter has: names and patterns instead of every layer in full. */
import type { PeftLoraConfig } from './peftConfig.js';

/** The value that occurs most, the first of several. Throws on none. */
export function mostCommon(values: Iterable<number>): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const [first] = [...counts].sort(([, a], [, b]) => b - a);
  return first[0];
}

/** rank_pattern or alpha_pattern: what differs from `common`, by last name where that is enough. */
export function patternsOf(values: ReadonlyMap<string, number>, common: number): Record<string, number> {
  const byLast = new Map<string, [site: string, value: number][]>();
  for (const entry of values) {
    const last = lastName(entry[0]);
    byLast.set(last, [...(byLast.get(last) ?? []), entry]);
  }
  const patterns = [...byLast].flatMap(([last, entries]) => {
    const [[, first]] = entries;
    if (entries.every(([, value]) => value === first)) return [[last, first] as const];
    return entries;
  });
  return Object.fromEntries(patterns.filter(([, value]) => value !== common));
}

/**
 * Targets that mean exactly `sites`: last names when they are all that `model` (every layer there is, where that is
 * known) has of these names; names within a layer and the layers' numbers when each has the same; else full names.
 */
export function targetsOf(
  sites: readonly string[],
  model?: Iterable<string>,
): Pick<PeftLoraConfig, 'target_modules' | 'layers_to_transform'> {
  const lasts = new Set(sites.map(lastName));
  if (model !== undefined && [...model].filter((site) => lasts.has(lastName(site))).length === sites.length) {
    return { target_modules: [...lasts], layers_to_transform: null };
  }
  const parts = sites.map((site) => /^(.+)\.(\d+)\.(.+)$/.exec(site));
  const layers = new Set(parts.map((part) => part?.[2]));
  const tails = new Set(parts.map((part) => part?.[3]));
  const regular =
    parts.every((part) => part !== null && part[1] === parts[0]![1]) &&
    layers.size * tails.size === sites.length;
  if (!regular) return { target_modules: [...sites], layers_to_transform: null };
  return { target_modules: [...tails] as string[], layers_to_transform: [...layers].map(Number) };
}

function lastName(site: string): string {
  return site.slice(site.lastIndexOf('.') + 1);
}
