/** A head that no checkpoint has yet: how it starts. */
import { Rng } from '../base/rng.js';
import { f32, sizeOf } from '../base/tensor.js';
import { constant } from '../graph/ops/index.js';
import type { Tensor } from '../graph/tensor.js';

/** transformers' initializer_range of every model here. */
const STD = 0.02;

/** As transformers starts a head: matrices N(0, 0.02²), gains 1, biases 0. */
export function freshStart(name: string, shape: readonly number[], rng: Rng): Float32Array {
  const length = sizeOf(shape);
  if (shape.length > 1) return Float32Array.from({ length }, () => STD * rng.normal());
  return new Float32Array(length).fill(name.endsWith('.bias') ? 0 : 1);
}

/** Its values where nothing trains it: always the same. */
export function constantStart(name: string, shape: readonly number[]): Float32Array {
  return freshStart(name, shape, new Rng(0, `fresh ${name}`));
}

/** A tensor of a graph that starts so and stays. */
export function freshWeight(name: string, shape: readonly number[]): Tensor {
  return constant(f32(constantStart(name, shape), shape));
}
