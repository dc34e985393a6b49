import { f32, type HostTensor } from '../../base/tensor.js';
import { apply, type EmitContext, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { mul } from './elementwise.js';
import { at, hostFrom } from './host.js';
import { softmaxOp } from './nn.js';
import { reshape } from './shape.js';

/** int32 [n] to [n, 1], the form in which ONNX takes one index a row. */
function column(ctx: EmitContext, index: string): string {
  return ctx.node('Unsqueeze', [index, ctx.int64([1])])[0];
}

/** x plus a value at one element a row: y[i, index[i]] = x[i, index[i]] + value. x: [n, v]; index: int32 [n]. */
export const scatterAddScalarOp: Op<{ value: number }> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (ctx, [x, index], { value }) => {
    const rows = column(ctx, index);
    const updates = ctx.node('Expand', [ctx.scalar(value), ctx.node('Shape', [rows])[0]])[0];
    return ctx.node('ScatterElements', [x, rows, updates], { axis: 1, reduction: 'add' });
  },
  vjp: (_, [g]) => [g, undefined],
  reference: ([x, index], { value }) => [
    hostFrom(x.dims, ([i, j]) => at(x, [i, j]) + (at(index, [i]) === j ? value : 0)),
  ],
  samples: [{ attrs: { value: -1 }, inputs: [{ dims: [3, 4] }, targetsSample()] }],
};

export function scatterAddScalar(x: Tensor, index: Tensor, value: number): Tensor {
  return apply('scatterAddScalar', scatterAddScalarOp, [x, index], { value })[0];
}

/** Keeps log(p) finite: p is raised by the smallest normal float32, so the loss is at most 87.3 nats. */
const SMALLEST = 1.1754944e-38;

/** ONNX nodes for losses [n] and probabilities [n, v]. */
export function likelihood(ctx: EmitContext, logits: string, targets: string): [losses: string, p: string] {
  const [p] = ctx.node('Softmax', [logits], { axis: -1 });
  const [picked] = ctx.node('GatherElements', [p, column(ctx, targets)], { axis: 1 });
  const [negative] = ctx.node('Neg', ctx.node('Log', ctx.node('Add', [picked, ctx.scalar(SMALLEST)])));
  return [ctx.node('Squeeze', [negative, ctx.int64([1])])[0], p];
}

/**
 * Negative log-likelihood of one target a row under softmax(logits), in nats.
 * Outputs: losses [n], and the probabilities [n, v] that its gradient uses again.
 */
export const crossEntropyOp: Op<null> = {
  infer: ([logits]) => [
    { dtype: logits.dtype, shape: [logits.shape[0]] },
    { dtype: logits.dtype, shape: logits.shape },
  ],
  emit: (ctx, [logits, targets]) => likelihood(ctx, logits, targets),
  // d nll / d logits = p - onehot(target)
  vjp: ({ inputs: [logits, targets], outputs: [, p] }, [g]) => [
    g && mul(scatterAddScalar(p, targets, -1), reshape(g, [logits.shape[0], 1])),
    undefined,
  ],
  reference: ([logits, targets]) => {
    const [p] = softmaxOp.reference([logits], null) as [HostTensor];
    const n = logits.dims[0];
    const losses = Float32Array.from({ length: n }, (_, i) => -Math.log(at(p, [i, at(targets, [i])])));
    return [f32(losses, [n]), p];
  },
  samples: [{ attrs: null, inputs: [{ dims: [3, 4] }, targetsSample()] }],
};

/** Losses [n] of logits [n, v] against int32 targets [n]. */
export function crossEntropy(logits: Tensor, targets: Tensor): Tensor {
  return apply('crossEntropy', crossEntropyOp, [logits, targets], null)[0];
}

function targetsSample() {
  return { dims: [3], dtype: 'int32' as const, values: [1, 3, 0], constant: true };
}
