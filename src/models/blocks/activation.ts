import { UserError } from '../../base/errors.js';
import { gelu, relu, silu, tanh } from '../../graph/ops/index.js';
import type { Tensor } from '../../graph/tensor.js';

/** Nonlinearities by the names that config.json has for them (transformers' ACT2FN). */
export const ACTIVATIONS = {
  silu,
  swish: silu,
  relu,
  tanh,
  gelu: (x: Tensor) => gelu(x, 'none'),
  gelu_new: (x: Tensor) => gelu(x, 'tanh'),
  gelu_fast: (x: Tensor) => gelu(x, 'tanh'),
  gelu_pytorch_tanh: (x: Tensor) => gelu(x, 'tanh'),
} as const satisfies Record<string, (x: Tensor) => Tensor>;
export type Activation = keyof typeof ACTIVATIONS;

function isActivation(name: string): name is Activation {
  return Object.hasOwn(ACTIVATIONS, name);
}

/** The activation that a key names. Throws UserError where there is none of that name. */
export function activationOf(place: string, key: string, name: string): Activation {
  if (isActivation(name)) return name;
  const known = Object.keys(ACTIVATIONS).join(', ');
  throw new UserError(`${place}: key "${key}": "${name}" is not supported, expected one of ${known}`);
}
