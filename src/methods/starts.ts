/** How random matrices start, one way for all methods. */
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
