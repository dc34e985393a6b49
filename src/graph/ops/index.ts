import type { Op } from '../op.js';
import * as elementwise from './elementwise.js';
import { gatherOp, scatterAddRowsOp } from './gather.js';
import { matmulHalfOp, widenOp } from './half.js';
import { headLossOp } from './headLoss.js';
import { constantOp, inputOp, weightOp } from './leaf.js';
import { addAtOp, crossEntropyOp } from './loss.js';
import { addmmOp, matmulOp } from './matmul.js';
import { rmsNormOp, ropeOp, softmaxOp } from './nn.js';
import { afterOp } from './order.js';
import { dequantizeOp, matmulQuantizedOp } from './quant.js';
import { expandOp, meanOp, rowSquaresOp, sumOp } from './reduce.js';
import { concatOp, padOp, reshapeOp, sliceOp, splitOp, transposeOp } from './shape.js';

/** Every op of the compiler. One suite (ops.test.ts) tries each: forward, gradient, emission. */
export const ops = {
  input: inputOp,
  weight: weightOp,
  constant: constantOp,
  add: elementwise.addOp,
  sub: elementwise.subOp,
  mul: elementwise.mulOp,
  div: elementwise.divOp,
  neg: elementwise.negOp,
  exp: elementwise.expOp,
  log: elementwise.logOp,
  sqrt: elementwise.sqrtOp,
  sigmoid: elementwise.sigmoidOp,
  silu: elementwise.siluOp,
  sign: elementwise.signOp,
  relu: elementwise.reluOp,
  keep: elementwise.keepOp,
  detach: elementwise.detachOp,
  matmul: matmulOp,
  addmm: addmmOp,
  reshape: reshapeOp,
  transpose: transposeOp,
  slice: sliceOp,
  pad: padOp,
  split: splitOp,
  concat: concatOp,
  sum: sumOp,
  mean: meanOp,
  rowSquares: rowSquaresOp,
  expand: expandOp,
  gather: gatherOp,
  scatterAddRows: scatterAddRowsOp,
  softmax: softmaxOp,
  rmsNorm: rmsNormOp,
  rope: ropeOp,
  after: afterOp,
  addAt: addAtOp,
  crossEntropy: crossEntropyOp,
  headLoss: headLossOp,
  dequantize: dequantizeOp,
  matmulQuantized: matmulQuantizedOp,
  widen: widenOp,
  matmulHalf: matmulHalfOp,
} satisfies Record<string, Op<unknown>>;

export type OpName = keyof typeof ops;

/** The record of an op by a node's `op`. */
export function opOf(name: string): Op<unknown> {
  const op = (ops as Record<string, Op<unknown>>)[name];
  if (!op) throw new Error(`no op "${name}" in the table`);
  return op;
}

export {
  add,
  detach,
  div,
  exp,
  keep,
  log,
  mul,
  neg,
  relu,
  sigmoid,
  sign,
  silu,
  sqrt,
  sub,
} from './elementwise.js';
export { gather, scatterAddRows } from './gather.js';
export { matmulHalf, widen } from './half.js';
export { headLoss } from './headLoss.js';
export { constant, input, scalar, type WeightAttrs, weight } from './leaf.js';
export { addAt, crossEntropy } from './loss.js';
export { addmm, matmul } from './matmul.js';
export { rmsNorm, rope, softmax } from './nn.js';
export { after } from './order.js';
export { dequantize, matmulQuantized, type QuantAttrs, quantDims } from './quant.js';
export { expandTo, mean, rowSquares, sum, zerosLike } from './reduce.js';
export { concat, pad, reshape, slice, split, transpose } from './shape.js';
