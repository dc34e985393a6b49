import { apply, type EmitContext, fixed, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { gatherOp } from './gather.js';
import { at, hostFrom } from './host.js';
import { crossEntropyOp, likelihood } from './loss.js';
import { matmulOp } from './matmul.js';

/** Rows of logits that exist at once. With fewer, reading the matrix costs more than its product. */
const ROWS = 256;

export interface HeadLossAttrs {
  /** Whether the second output is wanted. */
  gradient: boolean;
}

/**
 * The loss behind a frozen LM head, without ever holding the logits of all rows: hidden [n, d], the head's matrix [v, d] and
 * targets int32 [n] to the negative log-likelihoods [n] under softmax(hidden·Wᵀ), in nats, and the gradient of each
 * with respect to its row of hidden, [n, d]: softmax(hidden·Wᵀ)·W − W[target]. Made by a rewrite.
 */
export const headLossOp: Op<HeadLossAttrs> = {
  infer: ([hidden, matrix], { gradient }) => {
    if (hidden.shape[1] !== matrix.shape[1]) throw new Error('widths differ');
    const losses = { dtype: hidden.dtype, shape: [hidden.shape[0]] };
    return gradient ? [losses, { dtype: hidden.dtype, shape: hidden.shape }] : [losses];
  },
  emit: (ctx, [hidden, matrix, targets], { gradient }, node) => {
    const part = (h: string, t: string) => emitPart(ctx, h, matrix, t, gradient);
    // Other providers would leave their device for every turn of a loop.
    if (ctx.device !== 'cpu') return part(hidden, targets);

    const width = fixed(node.inputs[0].shape[1], 'a row');
    const one = ctx.int64([1]);
    const op = (type: string, a: string, b: string) => ctx.node(type, [a, b])[0];
    const rows = ctx.shapeVector([node.inputs[0].shape[0]]);
    const turns = op('Max', op('Div', op('Add', rows, ctx.int64([ROWS - 1])), ctx.int64([ROWS])), one);
    const height = op('Div', op('Sub', op('Add', rows, turns), one), turns);
    const missing = op('Sub', op('Mul', turns, height), rows);
    const parts = (x: string, behind: readonly number[]) => {
      const zeros = behind.map(() => 0);
      const pads = ctx.node(
        'Concat',
        [ctx.int64([0, ...zeros]), missing, ...behind.map(() => ctx.int64([0]))],
        {
          axis: 0,
        },
      )[0];
      const sizes = ctx.node('Concat', [turns, height, ...behind.map((d) => ctx.int64([d]))], { axis: 0 })[0];
      return ctx.node('Reshape', [ctx.node('Pad', [x, pads])[0], sizes])[0];
    };
    const [hiddenParts, targetParts] = [parts(hidden, [width]), parts(targets, [])];
    const results = ctx.loop(ctx.node('Squeeze', [turns])[0], node.outputs, (turn) => {
      const chosen = (x: string) => ctx.node('Gather', [x, turn], { axis: 0 })[0];
      return part(chosen(hiddenParts), chosen(targetParts));
    });
    return results.map((stacked, i) => {
      const flat = ctx.node('Reshape', [stacked, ctx.int64(i === 0 ? [-1] : [-1, width])])[0];
      return ctx.node('Slice', [flat, ctx.int64([0]), rows, ctx.int64([0])])[0];
    });
  },
  vjp: null,
  reference: ([hidden, matrix, targets], { gradient }) => {
    const [logits] = matmulOp.reference([hidden, matrix], { transA: false, transB: true, alpha: 1 });
    const [losses, p] = crossEntropyOp.reference([logits, targets], null);
    if (!gradient) return [losses];
    const [expected] = matmulOp.reference([p, matrix], { transA: false, transB: false, alpha: 1 });
    const [own] = gatherOp.reference([matrix, targets], null);
    return [losses, hostFrom(hidden.dims, (i) => at(expected, i) - at(own, i))];
  },
  samples: [true, false].flatMap((gradient) =>
    // The last one takes three turns, and its rows do not come out even.
    [3, 2 * ROWS + 3].map((rows) => ({
      attrs: { gradient },
      inputs: [
        { dims: [rows, 4], constant: true },
        { dims: [5, 4], constant: true },
        {
          dims: [rows],
          dtype: 'int32' as const,
          values: Array.from({ length: rows }, (_, i) => (3 * i) % 5),
          constant: true,
        },
      ],
    })),
  ),
};

function emitPart(
  ctx: EmitContext,
  hidden: string,
  matrix: string,
  targets: string,
  gradient: boolean,
): string[] {
  const [logits] = ctx.node('Gemm', [hidden, matrix], { transB: 1 });
  const [losses, p] = likelihood(ctx, logits, targets);
  if (!gradient) return [losses];
  const [expected] = ctx.node('MatMul', [p, matrix]);
  return [losses, ctx.node('Sub', [expected, ctx.node('Gather', [matrix, targets], { axis: 0 })[0]])[0]];
}

export function headLoss(
  hidden: Tensor,
  matrix: Tensor,
  targets: Tensor,
  gradient: boolean,
): readonly Tensor[] {
  return apply('headLoss', headLossOp, [hidden, matrix, targets], { gradient });
}
