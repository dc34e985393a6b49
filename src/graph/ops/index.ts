import type { Op } from '../op.js';
import * as elementwise from './elementwise.js';
import { expandOp } from './expand.js';
import { groupedOp, joinedOp, partsOp, rearrangeOp, topKOp } from './experts.js';
import { gatherElementsOp, gatherOp, scatterAddElementsOp, scatterAddRowsOp } from './gather.js';
import { geluOp } from './gelu.js';
import { matmulHadamardOp } from './hadamard.js';
import { castForOp, castOp, matmulHalfOp } from './half.js';
import { headLossOp } from './headLoss.js';
import { dequantizeRowsOp, gatherInt8Op, matmulInt8Op } from './int8.js';
import { constantOp, inputOp, weightOp } from './leaf.js';
import { crossEntropyOp, scatterAddScalarOp } from './loss.js';
import { addmmOp, matmulOp } from './matmul.js';
import { ropeOp, softmaxOp } from './nn.js';
import { layerNormOp, rmsNormOp } from './norm.js';
import { afterOp } from './order.js';
import { dequantizeForOp, dequantizeOp, matmulQuantizedOp } from './quant.js';
import { meanOp, rowSquaresOp, sumOp } from './reduce.js';
import { concatOp, padOp, reshapeOp, sliceOp, splitOp, transposeOp } from './shape.js';
import * as tables from './tables.js';

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
  cos: elementwise.cosOp,
  sin: elementwise.sinOp,
  softplus: elementwise.softplusOp,
  erf: elementwise.erfOp,
  tanh: elementwise.tanhOp,
  gelu: geluOp,
  sign: elementwise.signOp,
  relu: elementwise.reluOp,
  where: elementwise.whereOp,
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
  gatherElements: gatherElementsOp,
  scatterAddRows: scatterAddRowsOp,
  scatterAddElements: scatterAddElementsOp,
  softmax: softmaxOp,
  rmsNorm: rmsNormOp,
  layerNorm: layerNormOp,
  rope: ropeOp,
  after: afterOp,
  scatterAddScalar: scatterAddScalarOp,
  crossEntropy: crossEntropyOp,
  headLoss: headLossOp,
  dequantize: dequantizeOp,
  dequantizeFor: dequantizeForOp,
  matmulQuantized: matmulQuantizedOp,
  dequantizeRows: dequantizeRowsOp,
  matmulInt8: matmulInt8Op,
  gatherInt8: gatherInt8Op,
  cast: castOp,
  castFor: castForOp,
  matmulHalf: matmulHalfOp,
  matmulHadamard: matmulHadamardOp,
  range: tables.rangeOp,
  dimension: tables.dimensionOp,
  convert: tables.convertOp,
  cumulativeSum: tables.cumulativeSumOp,
  atMost: tables.atMostOp,
  lastRows: tables.lastRowsOp,
  topK: topKOp,
  grouped: groupedOp,
  rearrange: rearrangeOp,
  parts: partsOp,
  joined: joinedOp,
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
  cos,
  detach,
  div,
  erf,
  exp,
  log,
  mul,
  neg,
  relu,
  sigmoid,
  sign,
  silu,
  sin,
  softplus,
  sqrt,
  sub,
  tanh,
  where,
} from './elementwise.js';
export { expandTo, zerosLike } from './expand.js';
export { grouped, joined, parts, rearrange, topK } from './experts.js';
export { gather, gatherElements, scatterAddElements, scatterAddRows } from './gather.js';
export { type GeluApproximation, gelu } from './gelu.js';
export { frozenFor, matmulHadamard } from './hadamard.js';
export { cast, matmulHalf } from './half.js';
export { headLoss } from './headLoss.js';
export { dequantizeRows, gatherInt8, type Int8Attrs, matmulInt8 } from './int8.js';
export { constant, input, scalar, type WeightAttrs, weight } from './leaf.js';
export { crossEntropy, scatterAddScalar } from './loss.js';
export { addmm, matmul } from './matmul.js';
export { rope, softmax } from './nn.js';
export { layerNorm, rmsNorm } from './norm.js';
export { after } from './order.js';
export { dequantize, matmulQuantized, type QuantAttrs, quantDims } from './quant.js';
export { mean, rowSquares, sum } from './reduce.js';
export { concat, pad, reshape, slice, split, transpose } from './shape.js';
export { atMost, convert, cumulativeSum, dimension, lastRows, range } from './tables.js';
