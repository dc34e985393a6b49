import type { Dim } from '../../base/dims.js';
import { apply, normalAxis, type Op } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { mul } from './elementwise.js';
import { expandTo } from './expand.js';
import { forEachIndex, hostFrom } from './host.js';
import { scalar } from './leaf.js';
import { reshape } from './shape.js';

export interface ReduceAttrs {
  axes: readonly number[];
  keepDims: boolean;
}

function inferReduce([x]: readonly TensorType[], { axes, keepDims }: ReduceAttrs): TensorType[] {
  const shape = x.shape.flatMap((d, i): Dim[] => (axes.includes(i) ? (keepDims ? [1] : []) : [d]));
  return [{ dtype: x.dtype, shape }];
}

/** Sum over axes. Its gradient is the same value for every summed element. */
export const sumOp: Op<ReduceAttrs> = {
  infer: inferReduce,
  emit: (ctx, [x], { axes, keepDims }) =>
    ctx.node('ReduceSum', [x, ctx.int64(axes)], {
      keepdims: Number(keepDims),
    }),
  vjp: ({ inputs: [x], attrs }, [g]) => [g && expandTo(restoreAxes(g, x, attrs), x)],
  reference: ([x], { axes, keepDims }) => {
    const kept = x.dims.map((d, i) => (axes.includes(i) ? 1 : d));
    const total = hostFrom(kept, () => 0);
    forEachIndex(x.dims, (index, flat) => {
      const at = index.map((v, i) => (axes.includes(i) ? 0 : v)).reduce((a, v, i) => a * kept[i] + v, 0);
      total.data[at] += Number(x.data[flat]);
    });
    const dims = keepDims ? kept : x.dims.filter((_, i) => !axes.includes(i));
    return [{ ...total, dims }];
  },
  samples: [
    { attrs: { axes: [1], keepDims: true }, inputs: [{ dims: [2, 3] }] },
    { attrs: { axes: [0, 2], keepDims: false }, inputs: [{ dims: [2, 3, 2] }] },
  ],
};

/**
 * Σ x² of each row of a frozen matrix [rows, columns], in any precision. Made by a rewrite. Computed at each run: an engine that is left to
 * see that it never changes reads the matrix into memory of its own when it loads, and keeps it there.
 */
export const rowSquaresOp: Op<null> = {
  infer: ([x]) => [{ dtype: 'float32', shape: [x.shape[0]] }],
  emit: (ctx, [x], _, { inputs: [{ dtype, shape }] }) => {
    // -1, so that the engine does not take it for the matrix of a product and keeps that.
    const known = ctx.node('Mul', [ctx.int64([-1, Number(shape[1])]), ctx.opaqueOne()])[0];
    const [matrix] = ctx.node('Reshape', [x, known]);
    const wide = dtype === 'float32' ? matrix : ctx.cast(matrix, 'float32');
    return ctx.node('ReduceSumSquare', [wide], { axes: [1], keepdims: 0 });
  },
  vjp: null,
  reference: ([x]) => [
    hostFrom([x.dims[0]], ([row]) => {
      const width = x.dims[1];
      return Array.from(x.data.slice(row * width, (row + 1) * width), Number).reduce((a, v) => a + v * v, 0);
    }),
  ],
  samples: [{ attrs: null, inputs: [{ dims: [3, 4] }] }],
};

export function rowSquares(x: Tensor): Tensor {
  return apply('rowSquares', rowSquaresOp, [x], null)[0];
}

/** Mean over one axis of fixed size, kept as 1: the inner mean of a normalization. */
export const meanOp: Op<ReduceAttrs> = {
  infer: inferReduce,
  emit: (ctx, [x], { axes, keepDims }) => ctx.node('ReduceMean', [x], { axes, keepdims: Number(keepDims) }),
  vjp: ({ inputs: [x], attrs }, [g]) => {
    if (!g) return [];
    const n = attrs.axes.reduce((a, i) => a * Number(x.shape[i]), 1);
    return [expandTo(mul(restoreAxes(g, x, attrs), scalar(1 / n)), x)];
  },
  reference: ([x], attrs) => {
    const [y] = sumOp.reference([x], attrs);
    const n = attrs.axes.reduce((a, i) => a * x.dims[i], 1);
    return [hostFrom(y.dims, (index) => Number(y.data[index.reduce((a, v, i) => a * y.dims[i] + v, 0)]) / n)];
  },
  samples: [{ attrs: { axes: [1], keepDims: true }, inputs: [{ dims: [2, 3] }] }],
};

/** Puts reduced axes back as size 1, so that the value broadcasts against x. */
function restoreAxes(g: Tensor, x: Tensor, { axes, keepDims }: ReduceAttrs): Tensor {
  if (keepDims) return g;
  return reshape(
    g,
    x.shape.map((d, i) => (axes.includes(i) ? 1 : d)),
  );
}

export function sum(x: Tensor, axes: number | readonly number[], keepDims = false): Tensor {
  return apply('sum', sumOp, [x], { axes: axesOf(axes, x), keepDims })[0];
}
export function mean(x: Tensor, axis: number): Tensor {
  return apply('mean', meanOp, [x], { axes: axesOf(axis, x), keepDims: true })[0];
}

function axesOf(axes: number | readonly number[], x: Tensor): number[] {
  return (typeof axes === 'number' ? [axes] : [...axes]).map((a) => normalAxis(a, x.rank));
}
