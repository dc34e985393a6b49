import { type HostTensor, sizeOf } from '../../base/tensor.js';
import { apply, fixed, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { zerosLike } from './expand.js';
import { at, hostFrom } from './host.js';

/** Rows of a matrix by index: y[i…, :] = x[index[i…], :]. An embedding look-up, or a choice of positions. */
export const gatherOp: Op<null> = {
  infer: ([x, index]) => [{ dtype: x.dtype, shape: [...index.shape, ...x.shape.slice(1)] }],
  emit: (ctx, inputs) => ctx.node('Gather', inputs, { axis: 0 }),
  vjp: ({ inputs: [x, index] }, [g]) => [g && scatterAddRows(zerosLike(x), index, g), undefined],
  reference: ([x, index]) => [
    hostFrom([...index.dims, ...x.dims.slice(1)], (i) => {
      const rank = index.dims.length;
      return at(x, [at(index, i.slice(0, rank)), ...i.slice(rank)]);
    }),
  ],
  samples: [
    {
      attrs: null,
      inputs: [
        { dims: [4, 3] },
        { dims: [2, 3], dtype: 'int32', values: [0, 3, 3, 1, 0, 3], constant: true },
      ],
    },
  ],
};

export function gather(x: Tensor, index: Tensor): Tensor {
  return apply('gather', gatherOp, [x, index], null)[0];
}

/** x with rows added: y = x, then y[index[i…], :] += rows[i…, :], repeated indices adding up. x: [n, d]. */
export const scatterAddRowsOp: Op<null> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  // ScatterElements wants an index for every element: the row numbers, repeated along the columns.
  emit: (ctx, [x, index, rows], _, node) => {
    const [, indexTensor, rowsTensor] = node.inputs;
    const one = ctx.node('Unsqueeze', [index, ctx.int64([indexTensor.rank])]);
    const columns = rowsTensor.shape[rowsTensor.rank - 1];
    let wide = ctx.node('Expand', [one[0], ctx.shapeVector(rowsTensor.shape)])[0];
    let flat = rows;
    if (rowsTensor.rank > 2) {
      const shape = ctx.int64([-1, fixed(columns, 'a row')]);
      wide = ctx.node('Reshape', [wide, shape])[0];
      flat = ctx.node('Reshape', [rows, shape])[0];
    }
    return ctx.node('ScatterElements', [x, wide, flat], { axis: 0, reduction: 'add' });
  },
  vjp: ({ inputs: [, index] }, [g]) => (g ? [g, undefined, gather(g, index)] : []),
  reference: ([x, index, rows]) => {
    const y = { ...x, data: Float32Array.from(x.data as Float32Array) } as HostTensor;
    const width = x.dims[1];
    for (let i = 0; i < sizeOf(index.dims); i++) {
      for (let j = 0; j < width; j++) {
        (y.data as Float32Array)[Number(index.data[i]) * width + j] += Number(rows.data[i * width + j]);
      }
    }
    return [y];
  },
  samples: [
    {
      attrs: null,
      inputs: [
        { dims: [4, 3] },
        { dims: [3], dtype: 'int32', values: [1, 3, 1], constant: true },
        { dims: [3, 3] },
      ],
    },
    {
      attrs: null,
      inputs: [
        { dims: [4, 2] },
        { dims: [2, 2], dtype: 'int32', values: [1, 3, 1, 0], constant: true },
        { dims: [2, 2, 2] },
      ],
    },
  ],
};

export function scatterAddRows(x: Tensor, index: Tensor, rows: Tensor): Tensor {
  return apply('scatterAddRows', scatterAddRowsOp, [x, index, rows], null)[0];
}

/** One element a place along the last axis: y[i…, j] = x[i…, index[i…, j]]. index has x's rank and its leading sizes. */
export const gatherElementsOp: Op<null> = {
  infer: ([x, index]) => [{ dtype: x.dtype, shape: index.shape }],
  emit: (ctx, inputs) => ctx.node('GatherElements', inputs, { axis: -1 }),
  vjp: ({ inputs: [x, index] }, [g]) => [g && scatterAddElements(zerosLike(x), index, g), undefined],
  reference: ([x, index]) => [hostFrom(index.dims, (i) => at(x, [...i.slice(0, -1), at(index, i)]))],
  samples: [
    {
      attrs: null,
      inputs: [
        { dims: [2, 4] },
        { dims: [2, 3], dtype: 'int32', values: [0, 3, 3, 1, 0, 2], constant: true },
      ],
    },
  ],
};

export function gatherElements(x: Tensor, index: Tensor): Tensor {
  return apply('gatherElements', gatherElementsOp, [x, index], null)[0];
}

/** x with elements added along the last axis: y = x, then y[i…, index[i…, j]] += updates[i…, j], repeats adding up. */
export const scatterAddElementsOp: Op<null> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (ctx, inputs) => ctx.node('ScatterElements', inputs, { axis: -1, reduction: 'add' }),
  vjp: ({ inputs: [, index] }, [g]) => (g ? [g, undefined, gatherElements(g, index)] : []),
  reference: ([x, index, updates]) => {
    const y = hostFrom(x.dims, (i) => at(x, i));
    const [width, chosen] = [x.dims[x.dims.length - 1], index.dims[index.dims.length - 1]];
    for (let i = 0; i < sizeOf(index.dims); i++) {
      y.data[Math.floor(i / chosen) * width + Number(index.data[i])] += Number(updates.data[i]);
    }
    return [y];
  },
  samples: [
    {
      attrs: null,
      inputs: [
        { dims: [2, 4] },
        { dims: [2, 3], dtype: 'int32', values: [0, 3, 3, 1, 0, 2], constant: true },
        { dims: [2, 3] },
      ],
    },
  ],
};

export function scatterAddElements(x: Tensor, index: Tensor, updates: Tensor): Tensor {
  return apply('scatterAddElements', scatterAddElementsOp, [x, index, updates], null)[0];
}
