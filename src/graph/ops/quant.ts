import { type F32Tensor, f32, type HostTensor } from '../../base/tensor.js';
import { blocksOfRow, INT_BLOCK } from '../../formats/quant/blocks.js';
import { type MatrixShape, type QuantFormat, quantCodecs } from '../../formats/quant/index.js';
import { NF4_BLOCK } from '../../formats/quant/nf4.js';
import { apply, type EmitContext, type Op, opaqueSignal, type Sample } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { matmulOp } from './matmul.js';

// Matrices that lie quantized on disk. The graph is built and differentiated with `dequantize`, as if they were
// float32; the rewrites then turn every product with one into `matmulQuantized`, which never holds more than one of
// them in float32.

export interface QuantAttrs {
  format: QuantFormat;
  /** [out, in] of the matrix. */
  shape: MatrixShape;
  /** Serve: products of int4 and int8 in 8-bit arithmetic, half a percent beside float32. */
  fast: boolean;
}

/** Shapes of a matrix's codes and scales, as the engine's products take them. */
export function quantDims(format: QuantFormat, shape: MatrixShape): { codes: number[]; scales: number[] } {
  const { codes, scales } = quantCodecs[format].sizes(shape);
  if (format === 'nf4') return { codes: [codes], scales: [scales] };
  return { codes: [shape[0], blocksOfRow(shape[1]), codes / scales], scales: [scales] };
}

/**
 * The matrix [out, in] of its codes and scales. The third input is what is known of it: ‖row‖² of each row, [out].
 */
export const dequantizeOp: Op<QuantAttrs> = {
  infer: ([codes, scales], { format, shape }) => {
    checkDims(codes, scales, format, shape);
    return [{ dtype: 'float32', shape: [...shape] }];
  },
  emit: (ctx, [codes, scales], { format, shape }) => [
    emitMatrix(ctx, codes, scales, format, shape, ctx.int64([1])),
  ],
  vjp: null,
  reference: ([codes, scales], { format, shape }) => [matrixOf(codes, scales, format, shape)],
  samples: (['nf4', 'int8', 'int4'] as const).flatMap((format) =>
    (
      [
        [3, 64],
        [2, 40],
      ] as const
    ).map((shape) => sampleOf(format, shape, { fast: false }, [{ dims: [shape[0]] }])),
  ),
};

export function dequantize(codes: Tensor, scales: Tensor, rowSquares: Tensor, attrs: QuantAttrs): Tensor {
  return apply('dequantize', dequantizeOp, [codes, scales, rowSquares], attrs)[0];
}

export interface MatmulQuantizedAttrs extends QuantAttrs {
  /** x·Wᵀ; otherwise x·W. */
  transB: boolean;
}

/** x·Wᵀ or x·W for a quantized W [out, in] and x [rows, in] or [rows, out]. Made by a rewrite. */
export const matmulQuantizedOp: Op<MatmulQuantizedAttrs> = {
  infer: ([x, codes, scales], { format, shape: [out, size], transB }) => {
    checkDims(codes, scales, format, [out, size]);
    const [inner, outer] = transB ? [size, out] : [out, size];
    if (x.shape.length !== 2 || x.shape[1] !== inner) throw new Error(`x must be [rows, ${inner}]`);
    return [{ dtype: 'float32', shape: [x.shape[0], outer] }];
  },
  emit: (ctx, [x, codes, scales], { format, shape, transB, fast }, node) => {
    const [N, K] = shape;
    const signal = opaqueSignal(x, node.inputs[0]);
    // Neither product of the engine has the transposed form: MatMulBnb4 takes transB=0 and computes transB=1 all
    // the same (1.30). So the matrix is made in float32, for this product alone.
    if (!transB) return ctx.node('MatMul', [x, matrixForOneUse(ctx, codes, scales, format, shape, signal)]);
    if (format === 'nf4') return ctx.node('MatMulBnb4', [x, codes, scales], { ...BNB4, K, N }, MICROSOFT);
    if (format === 'int8' && !fast) {
      // With many rows faster than MatMulNBits.
      const w = matrixForOneUse(ctx, codes, scales, format, shape, signal);
      return ctx.node('Gemm', [x, w], { transB: 1 });
    }
    const attrs = { K, N, bits: bitsOf(format), block_size: INT_BLOCK, accuracy_level: fast ? 4 : 1 };
    return ctx.node('MatMulNBits', [x, codes, scales], attrs, MICROSOFT);
  },
  // MatMulBnb4 makes the whole matrix too; where it only serves to make it, that is there twice.
  scratch: (_, { format, shape: [out, size], transB }) => {
    const wide = 4 * out * size;
    return format === 'nf4' && !transB ? [wide, wide] : [wide];
  },
  vjp: null,
  reference: ([x, codes, scales], { format, shape, transB }) =>
    matmulOp.reference([x, matrixOf(codes, scales, format, shape)], { transA: false, transB, alpha: 1 }),
  samples: (['nf4', 'int8', 'int4'] as const).flatMap((format) =>
    [true, false].flatMap((transB) =>
      (
        [
          [3, 64],
          [2, 40],
        ] as const
      ).map((shape) =>
        sampleOf(format, shape, { transB, fast: false }, [], [{ dims: [5, transB ? shape[1] : shape[0]] }]),
      ),
    ),
  ),
};

export function matmulQuantized(
  x: Tensor,
  [codes, scales]: readonly Tensor[],
  attrs: MatmulQuantizedAttrs,
): Tensor {
  return apply('matmulQuantized', matmulQuantizedOp, [x, codes, scales], attrs)[0];
}

/**
 * The matrix in float32 for one use by its elements: made no sooner than the third input, the signal, is there, and freed when
 * what uses it is done.
 */
export const dequantizeForOp: Op<QuantAttrs> = {
  ...dequantizeOp,
  emit: (ctx, [codes, scales, signal], { format, shape }, node) => [
    matrixForOneUse(ctx, codes, scales, format, shape, opaqueSignal(signal, node.inputs[2])),
  ],
  vjp: () => [],
  samples: dequantizeOp.samples.map(({ attrs, inputs: [codes, scales] }) => ({
    attrs,
    inputs: [codes, scales, { dims: [2, 3], constant: true }],
  })),
};

export function dequantizeFor([codes, scales]: readonly Tensor[], signal: Tensor, attrs: QuantAttrs): Tensor {
  return apply('dequantizeFor', dequantizeForOp, [codes, scales, signal], attrs)[0];
}

const MICROSOFT = { domain: 'com.microsoft' };
const BNB4 = { block_size: NF4_BLOCK, quant_type: 1, training_mode: 1, transB: 1 };

function bitsOf(format: QuantFormat): number {
  return format === 'int8' ? 8 : 4;
}

function checkDims(codes: TensorType, scales: TensorType, format: QuantFormat, shape: MatrixShape): void {
  const dims = quantDims(format, shape);
  if (codes.dtype !== 'uint8') throw new Error(`codes must be uint8, not ${codes.dtype}`);
  if (String(codes.shape) !== String(dims.codes) || String(scales.shape) !== String(dims.scales)) {
    throw new Error(`codes [${codes.shape}] and scales [${scales.shape}] are not ${format} of [${shape}]`);
  }
}

/** The matrix in float32, made at every run for one product. */
function matrixForOneUse(
  ctx: EmitContext,
  codes: string,
  scales: string,
  format: QuantFormat,
  shape: MatrixShape,
  signal?: string,
): string {
  const one = ctx.opaqueOne(signal);
  if (format !== 'int8') return emitMatrix(ctx, codes, scales, format, shape, one);
  // Much faster than GatherBlockQuantized, but never computed at load, where emitMatrix may be.
  const blocks = shape[0] * blocksOfRow(shape[1]);
  const dims = ctx.node('Mul', [ctx.int64([blocks, INT_BLOCK]), one])[0];
  const zero = ctx.constant({ dtype: 'uint8', dims: [1], data: Uint8Array.of(128) });
  const zeros = ctx.node('Expand', [zero, ctx.int64([blocks])])[0];
  const rows = ctx.node('Reshape', [codes, dims])[0];
  return rowsOfBlocks(ctx, ctx.node('DequantizeLinear', [rows, scales, zeros], { axis: 0 })[0], shape);
}

/**
 * The matrix in float32. `one` is an int64 [1]: where the engine knows it when it loads, it computes the matrix then
 * and keeps it; where it does not (opaqueOne), the matrix lives for one product.
 */
function emitMatrix(
  ctx: EmitContext,
  codes: string,
  scales: string,
  format: QuantFormat,
  shape: MatrixShape,
  one: string,
): string {
  const [rows, columns] = shape;
  if (format === 'nf4') {
    // A product of 1 with all weights as one column dequantizes them in parallel; nothing else in the engine does.
    const unit = ctx.node('Reshape', [ctx.cast(one, 'float32'), ctx.int64([1, 1])])[0];
    const attrs = { ...BNB4, K: 1, N: rows * columns };
    const [flat] = ctx.node('MatMulBnb4', [unit, codes, scales], attrs, MICROSOFT);
    return ctx.node('Reshape', [flat, ctx.int64(shape)])[0];
  }
  const times = (dims: readonly number[]) => ctx.node('Mul', [ctx.int64(dims), one])[0];
  const [index] = ctx.node('Range', [
    ctx.int64Scalar(0),
    ctx.node('Squeeze', [times([rows])])[0],
    ctx.int64Scalar(1),
  ]);
  const [perBlock] = ctx.node('Reshape', [scales, times([rows, blocksOfRow(columns), 1])]);
  const attrs = { bits: bitsOf(format), block_size: INT_BLOCK, gather_axis: 0, quantize_axis: 2 };
  return rowsOfBlocks(
    ctx,
    ctx.node('GatherBlockQuantized', [codes, index, perBlock], attrs, MICROSOFT)[0],
    shape,
  );
}

/** Blocks as rows of the matrix, without what fills up the last one. */
function rowsOfBlocks(ctx: EmitContext, blocks: string, [rows, columns]: MatrixShape): string {
  const width = blocksOfRow(columns) * INT_BLOCK;
  const [matrix] = ctx.node('Reshape', [blocks, ctx.int64([rows, width])]);
  if (width === columns) return matrix;
  return ctx.node('Slice', [matrix, ctx.int64([0]), ctx.int64([columns]), ctx.int64([1])])[0];
}

function matrixOf(codes: HostTensor, scales: HostTensor, format: QuantFormat, shape: MatrixShape): F32Tensor {
  const quantized = { codes: codes.data as Uint8Array, scales: scales.data as Float32Array };
  return f32(quantCodecs[format].dequantize(quantized, shape), shape);
}

/** A matrix of fixed values in a format, as inputs of a sample. */
function sampleOf<A extends object>(
  format: QuantFormat,
  shape: MatrixShape,
  attrs: A,
  after: Sample<A>['inputs'],
  before: Sample<A>['inputs'] = [],
): Sample<A & { format: QuantFormat; shape: MatrixShape }> {
  const values = Float32Array.from(
    { length: shape[0] * shape[1] },
    (_, i) => Math.sin(i * 1.7) * (1 + (i % 7)),
  );
  const { codes, scales } = quantCodecs[format].quantize(values, shape);
  const dims = quantDims(format, shape);
  const inputs = [
    ...before,
    { dims: dims.codes, dtype: 'uint8' as const, values: [...codes], constant: true },
    { dims: dims.scales, values: [...scales], constant: true },
    ...after,
  ];
  return { attrs: { ...attrs, format, shape }, inputs };
}
