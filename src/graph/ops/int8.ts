import { f32, type HostTensor } from '../../base/tensor.js';
import { CODE_OF_ZERO } from '../../formats/quant/rows8.js';
import { apply, type EmitContext, fixed, type Op, type Sample } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { gatherOp } from './gather.js';
import { hostFrom } from './host.js';
import { matmulOp } from './matmul.js';

// Matrices in 8 bits with a scale a row, for files that any engine runs: products are MatMulInteger, which is plain ONNX. The graph is
// built with `dequantizeRows`, as if they were float32; the rewrites make products and look-ups of it.

/** Steps of what is left, in one of the first. */
const FINER = 254;

export interface Int8Attrs {
  /** Codes are [in, out], as products take them; otherwise [out, in], as look-ups do. */
  turned: boolean;
}

/** The matrix [out, in] of its codes (uint8, 128 is 0) and of a scale for each of its rows, [out]. */
export const dequantizeRowsOp: Op<Int8Attrs> = {
  infer: ([codes, scales], { turned }) => [{ dtype: 'float32', shape: matrixShape(codes, scales, turned) }],
  emit: (ctx, [codes, scales], { turned }, node) => {
    const [rows] = turned ? ctx.node('Transpose', [codes], { perm: [1, 0] }) : [codes];
    const [perRow] = ctx.node('Reshape', [scales, ctx.int64([fixed(node.inputs[1].shape[0], 'a row'), 1])]);
    return ctx.node('Mul', [signed(ctx, rows), perRow]);
  },
  vjp: null,
  reference: ([codes, scales], { turned }) => [matrixOf(codes, scales, turned)],
  samples: [true, false].map((turned) => ({ attrs: { turned }, inputs: sampleOf(3, 5, turned) })),
};

export function dequantizeRows(codes: Tensor, scales: Tensor, attrs: Int8Attrs): Tensor {
  return apply('dequantizeRows', dequantizeRowsOp, [codes, scales], attrs)[0];
}

/**
 * x·Wᵀ of whole numbers, x: [rows, in]. Each row of x has a scale of its own, and is the sum of two rows in 8 bits, of which the second
 * holds what the first leaves: 15 bits together, for one walk through W. Made by a rewrite. (One scale for all of x, as
 * DynamicQuantizeLinear has it, leaves nothing of most tokens where one has values many times theirs.)
 */
export const matmulInt8Op: Op<Int8Attrs> = {
  infer: ([x, codes, scales], { turned }) => {
    const [out, size] = matrixShape(codes, scales, turned);
    if (x.shape.length !== 2 || x.shape[1] !== size) throw new Error(`x must be [rows, ${size}]`);
    return [{ dtype: 'float32', shape: [x.shape[0], out] }];
  },
  emit: (ctx, [x, codes, scales], { turned }) => {
    const [most] = ctx.node('ReduceMax', [ctx.node('Abs', [x])[0]], { axes: [-1], keepdims: 1 });
    // A row of zeros has a scale, too.
    const [step] = ctx.node('Max', [ctx.node('Mul', [most, ctx.scalar(1 / 127)])[0], ctx.scalar(1e-30)]);
    const [steps] = ctx.node('Div', [x, step]);
    const [whole] = ctx.node('Round', [steps]);
    const [rest] = ctx.node('Mul', [ctx.node('Sub', [steps, whole])[0], ctx.scalar(FINER)]);
    const stacked = [whole, ctx.node('Round', [rest])[0]].map(
      (part) => ctx.node('Unsqueeze', [part, ctx.int64([0])])[0],
    );
    const both = ctx.node('Add', [ctx.node('Concat', stacked, { axis: 0 })[0], ctx.scalar(CODE_OF_ZERO)])[0];
    const [columns] = turned ? [codes] : ctx.node('Transpose', [codes], { perm: [1, 0] });
    const zero = ctx.constant({ dtype: 'uint8', dims: [], data: Uint8Array.of(CODE_OF_ZERO) });
    const [sums] = ctx.node('MatMulInteger', [ctx.cast(both, 'uint8'), columns, zero, zero]);
    const weights = ctx.constant(f32(Float32Array.of(1, 1 / FINER), [2, 1, 1]));
    const [sum] = ctx.node(
      'ReduceSum',
      [ctx.node('Mul', [ctx.cast(sums, 'float32'), weights])[0], ctx.int64([0])],
      { keepdims: 0 },
    );
    return ctx.node('Mul', [ctx.node('Mul', [sum, step])[0], scales]);
  },
  vjp: null,
  reference: ([x, codes, scales], { turned }) =>
    matmulOp.reference([x, matrixOf(codes, scales, turned)], { transA: false, transB: true, alpha: 1 }),
  samples: [true, false].map((turned) => ({
    attrs: { turned },
    inputs: [{ dims: [2, 5], constant: true }, ...sampleOf(3, 5, turned)],
  })),
};

export function matmulInt8(x: Tensor, [codes, scales]: readonly Tensor[], attrs: Int8Attrs): Tensor {
  return apply('matmulInt8', matmulInt8Op, [x, codes, scales], attrs)[0];
}

/** Rows of such a matrix by index, each dequantized by itself; codes are [rows, columns]. Made by a rewrite. */
export const gatherInt8Op: Op<null> = {
  infer: ([codes, scales, index]) => {
    const [, columns] = matrixShape(codes, scales, false);
    return [{ dtype: 'float32', shape: [...index.shape, columns] }];
  },
  emit: (ctx, [codes, scales, index], _, node) => {
    const lookUp = (table: string) => ctx.node('Gather', [table, index], { axis: 0 })[0];
    const [perRow] = ctx.node('Reshape', [scales, ctx.int64([fixed(node.inputs[1].shape[0], 'a row'), 1])]);
    return ctx.node('Mul', [signed(ctx, lookUp(codes)), lookUp(perRow)]);
  },
  vjp: null,
  reference: ([codes, scales, index]) => gatherOp.reference([matrixOf(codes, scales, false), index], null),
  samples: [
    {
      attrs: null,
      inputs: [
        ...sampleOf(4, 5, false),
        { dims: [2, 2], dtype: 'int32', values: [0, 2, 1, 3], constant: true },
      ],
    },
  ],
};

export function gatherInt8([codes, scales]: readonly Tensor[], index: Tensor): Tensor {
  return apply('gatherInt8', gatherInt8Op, [codes, scales, index], null)[0];
}

function signed(ctx: EmitContext, codes: string): string {
  return ctx.node('Sub', [ctx.cast(codes, 'float32'), ctx.scalar(CODE_OF_ZERO)])[0];
}

function matrixShape(codes: TensorType, scales: TensorType, turned: boolean): [number, number] {
  const [a, b] = codes.shape.map((d) => fixed(d, 'a quantized matrix'));
  const [out, size] = turned ? [b, a] : [a, b];
  if (codes.dtype !== 'uint8' || String(scales.shape) !== String([out]))
    throw new Error(`${codes.dtype} codes [${codes.shape}] and scales [${scales.shape}] make no matrix`);
  return [out, size];
}

function matrixOf(codes: HostTensor, scales: HostTensor, turned: boolean): HostTensor {
  const [out, size] = turned ? [codes.dims[1], codes.dims[0]] : codes.dims;
  return hostFrom([out, size], ([i, j]) => {
    const code = Number(codes.data[turned ? j * out + i : i * size + j]);
    return (code - CODE_OF_ZERO) * Number(scales.data[i]);
  });
}

function sampleOf(rows: number, columns: number, turned: boolean): Sample<unknown>['inputs'] {
  const dims = turned ? [columns, rows] : [rows, columns];
  const values = Array.from({ length: rows * columns }, (_, i) => (i * 53) % 256);
  const scales = Array.from({ length: rows }, (_, i) => 0.01 * (i + 1));
  return [
    { dims, dtype: 'uint8', values, constant: true },
    { dims: [rows], values: scales, constant: true },
  ];
}
