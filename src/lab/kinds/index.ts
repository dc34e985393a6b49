import { compare } from './compare.js';
import type { RunKind } from './kind.js';
import { latency } from './latency.js';
import { train } from './train.js';

/** Every kind of experiment. Grids name them. */
export const kinds = { train, compare, latency } as const satisfies Record<string, RunKind>;

export type KindName = keyof typeof kinds;

export function kindNamed(name: string): RunKind {
  return kinds[name as KindName];
}
