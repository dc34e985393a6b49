import { apply, type EmitContext, fixed, type Op } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { gatherOp } from './gather.js';
import { at, hostFrom } from './host.js';
import { crossEntropyOp, likelihood } from './loss.js';
import { matmulOp } from './matmul.js';

/** Rows of logits that exist at once. With fewer, reading the matrix costs more than its product. */
const ROWS = 256;

/** Elements of a half-precision matrix that exist in float32 at once. */
const WIDENED = 2 ** 22;

export interface HeadLossAttrs {
  /** Whether the second output is wanted. */
  gradient: boolean;
}

/**
 * The loss behind a frozen LM head, without ever holding the logits of all rows: hidden [n, d], the head's matrix [v, d]
 * in any precision, and targets int32 [n] to the negative log-likelihoods [n] under softmax(hidden·Wᵀ), in nats, and the gradient of each
 * with respect to its row of hidden, [n, d]: softmax(hidden·Wᵀ)·W − W[target]. Made by a rewrite.
 */
export const headLossOp: Op<HeadLossAttrs> = {
  infer: ([hidden, matrix], { gradient }) => {
    if (hidden.shape[1] !== matrix.shape[1]) throw new Error('widths differ');
    const losses = { dtype: hidden.dtype, shape: [hidden.shape[0]] };
    return gradient ? [losses, { dtype: hidden.dtype, shape: hidden.shape }] : [losses];
  },
  emit: (ctx, [hidden, matrix, targets], { gradient }, node) => {
    const head =
      node.inputs[1].dtype === 'float32' ? wideHead(ctx, matrix) : halfHead(ctx, matrix, node.inputs[1]);
    const part = (h: string, t: string) => {
      const [losses, p] = likelihood(ctx, head.logits(h), t);
      return gradient ? [losses, ctx.node('Sub', [head.expected(p), head.rows(t)])[0]] : [losses];
    };
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
  scratch: ([hidden, matrix], _, sizeAt) => {
    // Logits, their softmax and what becomes of it; of a matrix in half precision also its pieces, before they are one.
    const logits = 4 * Math.min(ROWS, sizeAt(hidden.shape[0])) * sizeAt(matrix.shape[0]);
    return [logits, logits, logits, ...(matrix.dtype === 'float32' ? [] : [logits, 4 * WIDENED])];
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

/** What a loss needs of the head's matrix W: hidden·Wᵀ, p·W, and W's rows of the targets. */
interface Head {
  logits(hidden: string): string;
  expected(p: string): string;
  rows(targets: string): string;
}

function wideHead(ctx: EmitContext, matrix: string): Head {
  return {
    logits: (hidden) => ctx.node('Gemm', [hidden, matrix], { transB: 1 })[0],
    expected: (p) => ctx.node('MatMul', [p, matrix])[0],
    rows: (targets) => ctx.node('Gather', [matrix, targets], { axis: 0 })[0],
  };
}

/** Casts some rows of the matrix at a time, for each product again. */
function halfHead(ctx: EmitContext, matrix: string, { shape }: TensorType): Head {
  const [vocabulary, width] = shape as number[];
  const height = Math.ceil(WIDENED / width);
  const starts = Array.from({ length: Math.ceil(vocabulary / height) }, (_, i) => i * height);
  const axis = ctx.int64([0]);
  // The engine must not know where a piece begins before its turn comes: it would cast all of them at once.
  const pieceAt = (start: number, signal: string) => {
    const zero = ctx.node('Sub', [ctx.opaqueOne(signal), ctx.int64([1])])[0];
    const from = ctx.node('Add', [ctx.int64([start]), zero])[0];
    return ctx.cast(ctx.node('Slice', [matrix, from, ctx.int64([start + height]), axis])[0], 'float32');
  };
  return {
    logits: (hidden) => {
      const pieces: string[] = [];
      for (const start of starts) {
        const piece = pieceAt(start, pieces.at(-1) ?? hidden);
        pieces.push(ctx.node('Gemm', [hidden, piece], { transB: 1 })[0]);
      }
      return ctx.node('Concat', pieces, { axis: 1 })[0];
    },
    expected: (p) => {
      const sizes = starts.map((start) => Math.min(height, vocabulary - start));
      const parts = ctx.node('Split', [p, ctx.int64(sizes)], { axis: 1 }, { outputs: starts.length });
      let sum: string | undefined;
      for (const [i, start] of starts.entries()) {
        const piece = pieceAt(start, sum ?? p);
        sum = ctx.node('Gemm', [parts[i], piece, ...(sum ? [sum] : [])])[0];
      }
      return sum!;
    },
    rows: (targets) => ctx.cast(ctx.node('Gather', [matrix, targets], { axis: 0 })[0], 'float32'),
  };
}

export function headLoss(
  hidden: Tensor,
  matrix: Tensor,
  targets: Tensor,
  gradient: boolean,
): readonly Tensor[] {
  return apply('headLoss', headLossOp, [hidden, matrix, targets], { gradient });
}
