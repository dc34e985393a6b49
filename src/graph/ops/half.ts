import { apply, type EmitContext, type Op, passingSignal } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { matmulOp } from './matmul.js';

// Weights that lie in half precision. The graph is built and differentiated with `widen`, as if they were float32. Where it
// says so, the rewrites turn products into `matmulHalf`, which never holds more than one of the matrices in float32.

/**
 * float16 or bfloat16 to float32. The engine does it for weights when it loads, and keeps the result; `passing` asks for
 * that not to happen to matrices.
 */
export const widenOp: Op<{ passing: boolean }> = {
  infer: ([x]) => {
    if (x.dtype !== 'float16' && x.dtype !== 'bfloat16') throw new Error('needs half precision');
    return [{ dtype: 'float32', shape: x.shape }];
  },
  emit: (ctx, [x]) => [ctx.float32(x)],
  vjp: null,
  reference: ([x]) => [x],
  samples: [],
};

export function widen(x: Tensor, passing: boolean): Tensor {
  return apply('widen', widenOp, [x], { passing })[0];
}

/** x·Wᵀ or x·W for a W [out, in] in half precision and x [rows, in] or [rows, out]. Made by a rewrite. */
export const matmulHalfOp: Op<{ transB: boolean }> = {
  infer: ([x, w], { transB }) => {
    const [inner, outer] = transB ? [1, 0] : [0, 1];
    if (x.shape[1] !== w.shape[inner]) throw new Error(`inner sizes differ`);
    return [{ dtype: 'float32', shape: [x.shape[0], w.shape[outer]] }];
  },
  emit: (ctx, [x, w], { transB }, node) => {
    const wide = passingFloat32(ctx, w, node.inputs[1], passingSignal(x, node.inputs[0]));
    return transB ? ctx.node('Gemm', [x, wide], { transB: 1 }) : ctx.node('MatMul', [x, wide]);
  },
  vjp: null,
  reference: (inputs, { transB }) => matmulOp.reference(inputs, { transA: false, transB, alpha: 1 }),
  samples: [],
};

export function matmulHalf(x: Tensor, w: Tensor, transB: boolean): Tensor {
  return apply('matmulHalf', matmulHalfOp, [x, w], { transB })[0];
}

/** A weight in float32 for one product: made when the signal is there, since the engine does not know the size until then. */
function passingFloat32(ctx: EmitContext, w: string, { shape }: TensorType, signal?: string): string {
  const sizes = ctx.node('Mul', [ctx.int64(shape as number[]), ctx.runtimeOne(signal)])[0];
  return ctx.float32(ctx.node('Reshape', [w, sizes])[0]);
}
