import { apply, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { at, hostFrom } from './host.js';
import { scalar } from './leaf.js';

/** Repeats a value to the shape of another, by broadcasting. */
export const expandOp: Op<null> = {
  infer: ([x, like]) => [{ dtype: x.dtype, shape: like.shape }],
  emit: (ctx, [x], _, node) => ctx.node('Expand', [x, ctx.shapeVector(node.outputs[0].shape)]),
  vjp: (_, [g]) => [g, undefined],
  reference: ([x, like]) => [hostFrom(like.dims, (index) => at(x, index))],
  samples: [{ attrs: null, inputs: [{ dims: [2, 1] }, { dims: [2, 3], constant: true }] }],
};

export function expandTo(x: Tensor, like: Tensor): Tensor {
  return apply('expand', expandOp, [x, like], null)[0];
}

/** A float32 tensor of zeros with the shape of `like`. */
export function zerosLike(like: Tensor): Tensor {
  return expandTo(scalar(0), like);
}
