import { addDims, type Dim, mulDims, type Shape } from '../../base/dims.js';
import { f32 } from '../../base/tensor.js';
import { apply, fixed, normalAxis, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { zerosLike } from './expand.js';
import { at, hostFrom } from './host.js';

/** Same elements in another shape; sizes may be symbolic, their product must be the same. */
export const reshapeOp: Op<{ shape: Shape }> = {
  infer: ([x], { shape }) => {
    if (mulDims(...x.shape) !== mulDims(...shape)) throw new Error(`cannot become [${shape}]`);
    return [{ dtype: x.dtype, shape }];
  },
  emit: (ctx, [x], { shape }) => ctx.node('Reshape', [x, ctx.shapeVector(shape, true)]),
  vjp: ({ inputs: [x] }, [g]) => [g && reshape(g, x.shape)],
  reference: ([x], { shape }) => [f32(x.data as Float32Array, shape as number[])],
  samples: [{ attrs: { shape: [3, 2, 2] }, inputs: [{ dims: [2, 6] }] }],
};

export function reshape(x: Tensor, shape: Shape): Tensor {
  return apply('reshape', reshapeOp, [x], { shape })[0];
}

/** Axes in another order: y's axis i is x's axis perm[i]. */
export const transposeOp: Op<{ perm: readonly number[] }> = {
  infer: ([x], { perm }) => {
    if ([...perm].sort().join() !== x.shape.map((_, i) => i).join()) throw new Error(`bad order [${perm}]`);
    return [{ dtype: x.dtype, shape: perm.map((p) => x.shape[p]) }];
  },
  emit: (ctx, [x], { perm }) => ctx.node('Transpose', [x], { perm }),
  vjp: ({ attrs: { perm } }, [g]) => [
    g &&
      transpose(
        g,
        perm.map((_, i) => perm.indexOf(i)),
      ),
  ],
  reference: ([x], { perm }) => [
    hostFrom(
      perm.map((p) => x.dims[p]),
      (index) => {
        const source: number[] = [];
        perm.forEach((p, i) => {
          source[p] = index[i];
        });
        return at(x, source);
      },
    ),
  ],
  samples: [
    { attrs: { perm: [0, 2, 1, 3] }, inputs: [{ dims: [2, 3, 2, 4] }] },
    { attrs: { perm: [2, 0, 1] }, inputs: [{ dims: [2, 3, 4] }] },
  ],
};

export function transpose(x: Tensor, perm: readonly number[]): Tensor {
  return apply('transpose', transposeOp, [x], { perm })[0];
}

export interface SliceAttrs {
  axis: number;
  start: number;
  /** Number of elements kept; null keeps the rest. */
  size: number | null;
}

/** Elements start … start+size of one axis; the axis must have a fixed size unless start is 0 and size null. */
export const sliceOp: Op<SliceAttrs> = {
  infer: ([x], { axis, start, size }) => {
    const whole = fixed(x.shape[axis], 'a sliced axis');
    const kept = size ?? whole - start;
    if (start < 0 || kept < 0 || start + kept > whole) throw new Error(`slice ${start}+${kept} of ${whole}`);
    return [{ dtype: x.dtype, shape: x.shape.map((d, i) => (i === axis ? kept : d)) }];
  },
  emit: (ctx, [x], { axis, start, size }) => {
    const end = size === null ? Number.MAX_SAFE_INTEGER : start + size;
    return ctx.node('Slice', [x, ctx.int64([start]), ctx.int64([end]), ctx.int64([axis])]);
  },
  // The gradient is zero outside the slice.
  vjp: ({ inputs: [x], outputs: [y], attrs: { axis, start } }, [g]) => {
    if (!g) return [];
    const size = (t: Tensor) => fixed(t.shape[axis], 'a sliced axis');
    return [pad(g, axis, start, size(x) - start - size(y))];
  },
  reference: ([x], { axis, start, size }) => [
    hostFrom(
      x.dims.map((d, i) => (i === axis ? (size ?? d - start) : d)),
      (index) =>
        at(
          x,
          index.map((v, i) => (i === axis ? v + start : v)),
        ),
    ),
  ],
  samples: [
    { attrs: { axis: 1, start: 1, size: 2 }, inputs: [{ dims: [2, 4] }] },
    { attrs: { axis: 0, start: 1, size: null }, inputs: [{ dims: [3, 2] }] },
  ],
};

export function slice(x: Tensor, axis: number, start: number, size: number | null = null): Tensor {
  return apply('slice', sliceOp, [x], { axis: normalAxis(axis, x.rank), start, size })[0];
}

/** Zeros before and after on one axis. */
export const padOp: Op<{ axis: number; before: number; after: number }> = {
  infer: ([x], { axis, before, after }) => [
    {
      dtype: x.dtype,
      shape: x.shape.map((d, i) => (i === axis ? fixed(d, 'a padded axis') + before + after : d)),
    },
  ],
  emit: (ctx, [x], { axis, before, after }, node) => {
    const { rank } = node.inputs[0];
    const at = (v: number) => Array.from({ length: rank }, (_, i) => (i === axis ? v : 0));
    return ctx.node('Pad', [x, ctx.int64([...at(before), ...at(after)])]);
  },
  vjp: ({ inputs: [x], attrs: { axis, before } }, [g]) => [
    g && slice(g, axis, before, fixed(x.shape[axis], 'a padded axis')),
  ],
  reference: ([x], { axis, before, after }) => [
    hostFrom(
      x.dims.map((d, i) => (i === axis ? d + before + after : d)),
      (index) => {
        const i = index[axis] - before;
        return i < 0 || i >= x.dims[axis]
          ? 0
          : at(
              x,
              index.map((v, a) => (a === axis ? i : v)),
            );
      },
    ),
  ],
  samples: [{ attrs: { axis: 1, before: 1, after: 2 }, inputs: [{ dims: [2, 3] }] }],
};

export function pad(x: Tensor, axis: number, before: number, after: number): Tensor {
  return apply('pad', padOp, [x], { axis: normalAxis(axis, x.rank), before, after })[0];
}

/** Joins along an axis. Differentiable where the sizes on that axis are fixed. */
export const concatOp: Op<{ axis: number }> = {
  infer: (inputs, { axis }) => [
    {
      dtype: inputs[0].dtype,
      shape: inputs[0].shape.map((d, i) =>
        i === axis ? inputs.slice(1).reduce<Dim>((sum, t) => addDims(sum, t.shape[axis]), d) : d,
      ),
    },
  ],
  emit: (ctx, inputs, { axis }) => ctx.node('Concat', inputs, { axis }),
  vjp: ({ inputs, attrs: { axis } }, [g]) =>
    g
      ? [
          ...split(
            g,
            axis,
            inputs.map((t) => t.shape[axis]),
          ),
        ]
      : [],
  reference: (inputs, { axis }) => [
    hostFrom(
      inputs[0].dims.map((d, i) => (i === axis ? inputs.reduce((n, t) => n + t.dims[axis], 0) : d)),
      (index) => {
        let i = index[axis];
        const t = inputs.find((candidate) => {
          if (i < candidate.dims[axis]) return true;
          i -= candidate.dims[axis];
          return false;
        });
        return at(
          t!,
          index.map((v, a) => (a === axis ? i : v)),
        );
      },
    ),
  ],
  samples: [{ attrs: { axis: 1 }, inputs: [{ dims: [2, 3] }, { dims: [2, 1] }] }],
};

export function concat(inputs: readonly Tensor[], axis: number): Tensor {
  return apply('concat', concatOp, inputs, { axis: normalAxis(axis, inputs[0].rank) })[0];
}

/** Cuts an axis to consecutive parts, whose sizes may be symbolic; they must add up to the axis. */
export const splitOp: Op<{ axis: number; sizes: readonly Dim[] }> = {
  infer: ([x], { axis, sizes }) => {
    const whole = sizes.slice(1).reduce<Dim>(addDims, sizes[0]);
    if (whole !== x.shape[axis]) throw new Error(`parts [${sizes}] do not add up to ${x.shape[axis]}`);
    return sizes.map((size) => ({ dtype: x.dtype, shape: x.shape.map((d, i) => (i === axis ? size : d)) }));
  },
  emit: (ctx, [x], { axis, sizes }) =>
    ctx.node('Split', [x, ctx.shapeVector(sizes)], { axis }, { outputs: sizes.length }),
  vjp: ({ outputs, attrs: { axis } }, grads) => [
    concat(
      outputs.map((y, i) => grads[i] ?? zerosLike(y)),
      axis,
    ),
  ],
  reference: ([x], { axis, sizes }) => {
    let start = 0;
    return sizes.flatMap((size) => {
      start += Number(size);
      return sliceOp.reference([x], { axis, start: start - Number(size), size: Number(size) });
    });
  },
  samples: [{ attrs: { axis: 1, sizes: [1, 3] }, inputs: [{ dims: [2, 4] }] }],
};

export function split(x: Tensor, axis: number, sizes: readonly Dim[]): readonly Tensor[] {
  return apply('split', splitOp, [x], { axis: normalAxis(axis, x.rank), sizes });
}
