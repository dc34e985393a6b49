import { apply, type EmitContext, type Op, opaqueSignal } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { matmulOp } from './matmul.js';

// Weights that lie in half or double precision. The graph is built and differentiated with a `cast` of them, as if they were float32.
// Where it is `perUse`, the rewrites turn products into `matmulHalf`, which never holds more than one matrix in float32.

/**
 * float16, bfloat16 or float64 to float32. Of weights the engine does it once, when it loads, and keeps the result. With `perUse` a
 * matrix is cast for each product anew instead, and the copy freed behind it.
 */
export const castOp: Op<{ perUse: boolean }> = {
  infer: ([x]) => {
    if (!CAST.has(x.dtype)) throw new Error('needs half or double precision');
    return [{ dtype: 'float32', shape: x.shape }];
  },
  emit: (ctx, [x]) => [ctx.cast(x, 'float32')],
  vjp: null,
  reference: ([x]) => [x],
  samples: [],
};

const CAST: ReadonlySet<string> = new Set(['float16', 'bfloat16', 'float64']);

export function cast(x: Tensor, perUse: boolean): Tensor {
  return apply('cast', castOp, [x], { perUse })[0];
}

/** x·Wᵀ or x·W for a W [out, in] in half precision and x [rows, in] or [rows, out]. Made by a rewrite. */
export const matmulHalfOp: Op<{ transB: boolean }> = {
  infer: ([x, w], { transB }) => {
    const [inner, outer] = transB ? [1, 0] : [0, 1];
    if (x.shape[1] !== w.shape[inner]) throw new Error(`inner sizes differ`);
    return [{ dtype: 'float32', shape: [x.shape[0], w.shape[outer]] }];
  },
  emit: (ctx, [x, w], { transB }, node) => {
    const wide = float32ForOneUse(ctx, w, node.inputs[1], opaqueSignal(x, node.inputs[0]));
    return transB ? ctx.node('Gemm', [x, wide], { transB: 1 }) : ctx.node('MatMul', [x, wide]);
  },
  scratch: ([, w], _, sizeAt) => [w.shape.reduce<number>((n, dim) => n * sizeAt(dim), 4)],
  vjp: null,
  reference: (inputs, { transB }) => matmulOp.reference(inputs, { transA: false, transB, alpha: 1 }),
  samples: [],
};

export function matmulHalf(x: Tensor, w: Tensor, transB: boolean): Tensor {
  return apply('matmulHalf', matmulHalfOp, [x, w], { transB })[0];
}

/**
 * A weight that is used by its elements, in float32: made no sooner than `signal` is there, and freed when what uses it is done.
 * Of one in float32 so that what is made of it, as its transpose, is not made at load.
 */
export const castForOp: Op<null> = {
  infer: ([w]) => {
    if (!CAST.has(w.dtype) && w.dtype !== 'float32') throw new Error('needs a number');
    return [{ dtype: 'float32', shape: w.shape }];
  },
  emit: (ctx, [w, signal], _, node) => {
    const [type, signalType] = node.inputs;
    return [float32ForOneUse(ctx, w, type, opaqueSignal(signal, signalType))];
  },
  vjp: () => [],
  reference: ([w]) => [w],
  samples: [],
};

export function castFor(w: Tensor, signal: Tensor): Tensor {
  return apply('castFor', castForOp, [w, signal], null)[0];
}

/** A weight in float32 for one product: made when the signal is there, since the engine does not know the size until then. */
function float32ForOneUse(
  ctx: EmitContext,
  w: string,
  { dtype, shape }: TensorType,
  signal?: string,
): string {
  const sizes = ctx.node('Mul', [ctx.int64(shape as number[]), ctx.opaqueOne(signal)])[0];
  const [late] = ctx.node('Reshape', [w, sizes]);
  return dtype === 'float32' ? late : ctx.cast(late, 'float32');
}
