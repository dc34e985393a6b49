import { broadcast, type Dim } from '../../base/dims.js';
import { apply, type EmitContext, type Op } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { at, hostFrom } from './host.js';

export interface MatmulAttrs {
  transA: boolean;
  transB: boolean;
  /** Factor of the product. */
  alpha: number;
}

function inferMatmul([a, b]: readonly TensorType[], { transA, transB }: MatmulAttrs): TensorType[] {
  if (a.shape.length < 2 || b.shape.length < 2) throw new Error('needs at least two dimensions');
  const [m, k] = lastTwo(a.shape, transA);
  const [k2, n] = lastTwo(b.shape, transB);
  if (k !== k2) throw new Error(`inner sizes ${k} and ${k2} differ`);
  return [{ dtype: a.dtype, shape: [...broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n] }];
}

function lastTwo(shape: readonly Dim[], transposed: boolean): [Dim, Dim] {
  const [r, c] = shape.slice(-2);
  return transposed ? [c, r] : [r, c];
}

/** Exchanges the last two axes by ONNX nodes, for providers whose product takes no transposed input. */
function swapLast(ctx: EmitContext, name: string, rank: number): string {
  const perm = Array.from({ length: rank }, (_, i) =>
    i < rank - 2 ? i : i === rank - 2 ? rank - 1 : rank - 2,
  );
  return ctx.node('Transpose', [name], { perm })[0];
}

/**
 * alpha · op(A) · op(B) over the last two axes, the others broadcast. FusedMatMul on the CPU; elsewhere Gemm
 * for matrices and MatMul with Transpose for batches (FusedMatMul would fall back to the CPU there).
 */
export const matmulOp: Op<MatmulAttrs> = {
  infer: inferMatmul,
  emit: (ctx, [a, b], { transA, transB, alpha }, node) => {
    const [ra, rb] = node.inputs.map((t) => t.rank);
    if (ctx.device === 'cpu') {
      if (!transA && !transB && alpha === 1) return ctx.node('MatMul', [a, b]);
      return ctx.node(
        'FusedMatMul',
        [a, b],
        { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } },
        { domain: 'com.microsoft' },
      );
    }
    if (ra === 2 && rb === 2) {
      return ctx.node('Gemm', [a, b], {
        transA: Number(transA),
        transB: Number(transB),
        alpha: { float: alpha },
      });
    }
    const y = ctx.node('MatMul', [transA ? swapLast(ctx, a, ra) : a, transB ? swapLast(ctx, b, rb) : b]);
    if (alpha === 1) return y;
    return ctx.node('Mul', [y[0], ctx.scalar(alpha)]);
  },
  // Y = αAB:  dA = α·dY·Bᵀ,  dB = α·Aᵀ·dY; with transposed inputs the factors change places.
  vjp: ({ inputs: [a, b], attrs: { transA, transB, alpha } }, [g]) => {
    if (!g) return [];
    const dA = transA
      ? matmul(b, g, { transA: transB, transB: true, alpha })
      : matmul(g, b, { transB: !transB, alpha });
    const dB = transB
      ? matmul(g, a, { transA: true, transB: transA, alpha })
      : matmul(a, g, { transA: !transA, alpha });
    return [dA, dB];
  },
  reference: ([a, b], { transA, transB, alpha }) => {
    const [m, k] = lastTwo(a.dims, transA) as [number, number];
    const n = lastTwo(b.dims, transB)[1] as number;
    const batch = broadcast(a.dims.slice(0, -2), b.dims.slice(0, -2)) as number[];
    return [
      hostFrom([...batch, m, n], (index) => {
        const [i, j] = index.slice(-2);
        const lead = index.slice(0, -2);
        const la = lead.slice(lead.length - a.dims.length + 2);
        const lb = lead.slice(lead.length - b.dims.length + 2);
        let sum = 0;
        for (let x = 0; x < k; x++) {
          sum +=
            at(a, [...la, ...(transA ? [x, i] : [i, x])]) * at(b, [...lb, ...(transB ? [j, x] : [x, j])]);
        }
        return alpha * sum;
      }),
    ];
  },
  samples: [false, true].flatMap((transA) =>
    [false, true].flatMap((transB) => [
      {
        attrs: { transA, transB, alpha: 0.5 },
        inputs: [{ dims: transA ? [4, 3] : [3, 4] }, { dims: transB ? [2, 4] : [4, 2] }],
      },
      {
        attrs: { transA, transB, alpha: 1 },
        inputs: [
          { dims: [2, 2, ...(transA ? [4, 3] : [3, 4])] },
          { dims: [2, 2, ...(transB ? [2, 4] : [4, 2])] },
        ],
      },
    ]),
  ),
};

/** alpha · op(a) · op(b); a: [.., m, k] (or [.., k, m] with transA), b: [.., k, n] (or [.., n, k] with transB). */
export function matmul(a: Tensor, b: Tensor, options: Partial<MatmulAttrs> = {}): Tensor {
  return apply('matmul', matmulOp, [a, b], { transA: false, transB: false, alpha: 1, ...options })[0];
}

/**
 * alpha · op(A) · op(B) + C for matrices, in one node (Gemm). Made by a rewrite out of a product and a sum:
 * it saves a node and a buffer for each LoRA branch.
 */
export const addmmOp: Op<MatmulAttrs> = {
  infer: ([c, a, b], attrs) => {
    const [y] = inferMatmul([a, b], attrs);
    if (String(c.shape) !== String(y.shape)) throw new Error(`sum of [${c.shape}] and [${y.shape}]`);
    return [y];
  },
  emit: (ctx, [c, a, b], { transA, transB, alpha }) =>
    ctx.node('Gemm', [a, b, c], {
      transA: Number(transA),
      transB: Number(transB),
      alpha: { float: alpha },
    }),
  vjp: null,
  reference: ([c, a, b], attrs) => {
    const [y] = matmulOp.reference([a, b], attrs);
    return [hostFrom(y.dims, (index) => at(c, index) + at(y, index))];
  },
  samples: [
    {
      attrs: { transA: false, transB: true, alpha: 2 },
      inputs: [{ dims: [3, 2] }, { dims: [3, 4] }, { dims: [2, 4] }],
    },
    {
      attrs: { transA: true, transB: false, alpha: 1 },
      inputs: [{ dims: [3, 2] }, { dims: [4, 3] }, { dims: [4, 2] }],
    },
  ],
};

export function addmm(c: Tensor, a: Tensor, b: Tensor, attrs: MatmulAttrs): Tensor {
  return apply('addmm', addmmOp, [c, a, b], attrs)[0];
}
