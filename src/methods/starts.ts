/** How random matrices start, one way for all methods. */
import * as z from 'zod';
import { UserError } from '../base/errors.js';
import type { Rng } from '../base/rng.js';

/** Fills a tensor of `length` elements by a tensor's own stream of random numbers. */
export type Start = (rng: Rng) => Float32Array;

/** U(−bound, bound). As PyTorch starts a linear layer over n inputs: bound = 1/√n. */
export function uniformStart(length: number, bound: number): Start {
  return (rng) => Float32Array.from({ length }, () => (2 * rng.uniform() - 1) * bound);
}

/** N(0, std²). As PyTorch starts an embedding: std = 1. */
export function normalStart(length: number, std = 1): Start {
  return (rng) => Float32Array.from({ length }, () => rng.normal() * std);
}

/** PEFT's init_weights, which several methods have, each with words of its own. */
export const initWeights = z
  .union(
    [z.boolean(), z.enum(['gaussian', 'bat', 'mini'])],
    'expected true, false, "gaussian", "bat" or "mini"',
  )
  .default(true)
  .describe(
    'how MiSS and HiRA begin: true: at the base; false: random; gaussian: HiRA with A ~ N(0, 1/r²); bat, mini: other kinds of MiSS',
  );
type InitWeights = z.output<typeof initWeights>;

/** The word of init_weights, one of those of a method. Throws UserError for another method's. */
export function ownInitWeights<S extends string>(
  place: string,
  method: string,
  value: InitWeights,
  own: readonly S[],
): boolean | S {
  const found = typeof value === 'boolean' ? value : own.find((word) => word === value);
  if (found !== undefined) return found;
  const words = own.map((word) => `"${word}"`).join(' or ');
  throw new UserError(
    `${place}: init_weights "${value}" is not for ${method}, expected true, false${own.length > 1 ? ', ' : ' or '}${words}`,
  );
}
