/** What a graph makes its own masks and tables of: numbers of places, counts and comparisons. No gradient passes. */
import { broadcast, type Dim } from '../../base/dims.js';
import { type DType, f32, type HostTensor, sizeOf } from '../../base/tensor.js';
import { apply, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { at, hostFrom, hostMap } from './host.js';

/** 0, 1, 2 … up to a size, float32 [size]. */
export const rangeOp: Op<{ size: Dim }> = {
  infer: (_, { size }) => [{ dtype: 'float32', shape: [size] }],
  emit: (ctx, _, { size }) => {
    const [end] = ctx.node('Squeeze', [ctx.shapeVector([size])]);
    return [ctx.cast(ctx.node('Range', [ctx.int64Scalar(0), end, ctx.int64Scalar(1)])[0], 'float32')];
  },
  vjp: null,
  reference: (_, { size }) => [hostFrom([Number(size)], ([i]) => i)],
  samples: [{ attrs: { size: 5 }, inputs: [] }],
};

export function range(size: Dim): Tensor {
  return apply('range', rangeOp, [], { size })[0];
}

/** A size as a float32 scalar. */
export const dimensionOp: Op<{ size: Dim }> = {
  infer: () => [{ dtype: 'float32', shape: [] }],
  emit: (ctx, _, { size }) => [ctx.cast(ctx.node('Squeeze', [ctx.shapeVector([size])])[0], 'float32')],
  vjp: null,
  reference: (_, { size }) => [f32(Float32Array.of(Number(size)), [])],
  samples: [{ attrs: { size: 5 }, inputs: [] }],
};

export function dimension(size: Dim): Tensor {
  return apply('dimension', dimensionOp, [], { size })[0];
}

type Numbers = Extract<DType, 'float32' | 'int64'>;

/** Whole numbers as another type. */
export const convertOp: Op<{ to: Numbers }> = {
  infer: ([x], { to }) => [{ dtype: to, shape: x.shape }],
  emit: (ctx, [x], { to }) => [ctx.cast(x, to)],
  vjp: null,
  reference: ([x], { to }) => {
    const numbers = Array.from<number | bigint>(x.data).map(Number);
    const converted: HostTensor =
      to === 'int64'
        ? { dtype: 'int64', dims: x.dims, data: BigInt64Array.from(numbers, BigInt) }
        : f32(Float32Array.from(numbers), x.dims);
    return [converted];
  },
  samples: [
    {
      attrs: { to: 'float32' },
      inputs: [{ dims: [2, 2], dtype: 'int64', values: [0, 3, 1, 2], constant: true }],
    },
    { attrs: { to: 'int64' }, inputs: [{ dims: [3], values: [4, 0, 7], constant: true }] },
  ],
};

export function convert(x: Tensor, to: Numbers): Tensor {
  return apply('convert', convertOp, [x], { to })[0];
}

/** Sums of each element of a row with all before it, float32. */
export const cumulativeSumOp: Op<null> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (ctx, [x]) => ctx.node('CumSum', [x, ctx.int64Scalar(-1)]),
  vjp: null,
  reference: ([x]) => {
    const width = x.dims[x.dims.length - 1];
    let sum = 0;
    const data = Float32Array.from({ length: sizeOf(x.dims) }, (_, i) => {
      sum = (i % width === 0 ? 0 : sum) + Number(x.data[i]);
      return sum;
    });
    return [f32(data, x.dims)];
  },
  samples: [{ attrs: null, inputs: [{ dims: [2, 4], values: [0, 1, 1, 1, 1, 0, 2, 1], constant: true }] }],
};

export function cumulativeSum(x: Tensor): Tensor {
  return apply('cumulativeSum', cumulativeSumOp, [x], null)[0];
}

/** Whether a ≤ b, bool; both broadcast. */
export const atMostOp: Op<null> = {
  infer: ([a, b]) => [{ dtype: 'bool', shape: broadcast(a.shape, b.shape) }],
  emit: (ctx, inputs) => ctx.node('LessOrEqual', inputs),
  vjp: null,
  reference: (inputs) => {
    const { dims, data } = hostMap(inputs, (a, b) => Number(a <= b));
    return [{ dtype: 'bool', dims, data: Uint8Array.from(data) }];
  },
  samples: [
    {
      attrs: null,
      inputs: [
        { dims: [3, 1], values: [0, 1, 2], constant: true },
        { dims: [3], values: [0, 1.5, 2], constant: true },
      ],
    },
  ],
};

export function atMost(a: Tensor, b: Tensor): Tensor {
  return apply('atMost', atMostOp, [a, b], null)[0];
}

/** The last rows of each sequence: `count` of them (int64 without dimensions), 0 for all; `kept` names how many. x: [batch, seq, d]. */
export const lastRowsOp: Op<{ kept: Dim }> = {
  infer: ([x], { kept }) => [{ dtype: x.dtype, shape: [x.shape[0], kept, ...x.shape.slice(2)] }],
  emit: (ctx, [x, count]) => {
    // From −0, the beginning, where all are.
    const [start] = ctx.node('Reshape', [ctx.node('Neg', [count])[0], ctx.int64([1])]);
    return ctx.node('Slice', [x, start, ctx.int64([Number.MAX_SAFE_INTEGER]), ctx.int64([1])]);
  },
  vjp: null,
  reference: ([x, count], { kept }) => {
    const skipped = Number(count.data[0]) === 0 ? 0 : x.dims[1] - Number(count.data[0]);
    return [
      hostFrom([x.dims[0], Number(kept), ...x.dims.slice(2)], ([b, s, ...rest]) =>
        at(x, [b, s + skipped, ...rest]),
      ),
    ];
  },
  samples: [
    {
      attrs: { kept: 2 },
      inputs: [
        { dims: [2, 3, 2], constant: true },
        { dims: [], dtype: 'int64', values: [2], constant: true },
      ],
    },
    {
      attrs: { kept: 3 },
      inputs: [
        { dims: [2, 3, 2], constant: true },
        { dims: [], dtype: 'int64', values: [0], constant: true },
      ],
    },
  ],
};

export function lastRows(x: Tensor, count: Tensor, kept: Dim): Tensor {
  return apply('lastRows', lastRowsOp, [x, count], { kept })[0];
}
