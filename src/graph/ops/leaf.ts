import type { Shape } from '../../base/dims.js';
import type { DType, HostTensor, WeightDType } from '../../base/tensor.js';
import { apply, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';

// Values that come from outside the graph. The emitter gives them their ONNX form, so `emit` here is
// never reached; they have no inputs, so no gradient passes through.

function leaf<A>(infer: Op<A>['infer']): Op<A> {
  return {
    infer,
    emit: () => {
      throw new Error('leaves are emitted by the emitter');
    },
    vjp: null,
    reference: () => {
      throw new Error('leaves have no forward');
    },
    samples: [],
  };
}

export interface InputAttrs {
  name: string;
  dtype: DType;
  shape: Shape;
}

/** Fed at every run. */
export const inputOp = leaf<InputAttrs>((_, a) => [{ dtype: a.dtype, shape: a.shape }]);

export function input(name: string, dtype: DType, shape: Shape): Tensor {
  return apply('input', inputOp, [], { name, dtype, shape })[0];
}

/** Where a frozen weight lies on disk: `length` bytes at `offset` of `file` (a name inside the model folder). */
export interface WeightAttrs {
  name: string;
  shape: readonly number[];
  stored: WeightDType | 'uint8';
  file: string;
  offset: number;
  length: number;
}

/** A frozen weight that the engine maps from its file. */
export const weightOp = leaf<WeightAttrs>((_, a) => [{ dtype: a.stored, shape: a.shape }]);

export function weight(attrs: WeightAttrs): Tensor {
  return apply('weight', weightOp, [], attrs)[0];
}

/** A small constant stored in the graph. */
export const constantOp = leaf<{ value: HostTensor }>((_, a) => [
  { dtype: a.value.dtype, shape: a.value.dims },
]);

export function constant(value: HostTensor): Tensor {
  return apply('constant', constantOp, [], { value })[0];
}

/** A float32 scalar constant. */
export function scalar(value: number): Tensor {
  return constant({ dtype: 'float32', dims: [], data: Float32Array.of(value) });
}
