import { sameShape } from '../../base/dims.js';
import { apply, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';

/**
 * x, available only once `signal`, of x's shape, is. A reshape of x to the shape that the signal turns out to have: no
 * element is copied, and the engine cannot take what hangs on it for what hangs on x.
 */
export const afterOp: Op<null> = {
  infer: ([x, signal]) => {
    if (!sameShape(x.shape, signal.shape)) throw new Error('shapes differ');
    return [{ dtype: x.dtype, shape: x.shape }];
  },
  emit: (ctx, [x, signal]) => ctx.node('Reshape', [x, ctx.node('Shape', [signal])[0]]),
  vjp: null,
  reference: ([x]) => [x],
  samples: [{ attrs: null, inputs: [{ dims: [2, 3] }, { dims: [2, 3] }] }],
};

export function after(x: Tensor, signal: Tensor): Tensor {
  return apply('after', afterOp, [x, signal], null)[0];
}
