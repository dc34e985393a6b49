/** Products with a frozen matrix whose elements a product of two thin ones scales. */
import { apply, type Op, opaqueSignal } from '../op.js';
import type { Tensor } from '../tensor.js';
import { mul, mulOp } from './elementwise.js';
import { castFor } from './half.js';
import { matmul, matmulOp } from './matmul.js';
import { dequantizeFor, type QuantAttrs } from './quant.js';
import { transpose } from './shape.js';

/**
 * A frozen matrix that is used by its elements. One that lies transposed, in half precision or quantized is made no sooner
 * than `signal` is there, and again for each signal; left as it is, the engine would make it when it loads, and keep it.
 */
export function frozenFor(w: Tensor, signal: Tensor): Tensor {
  const { op, inputs, attrs } = w.node;
  if (op === 'transpose') {
    const stored = inputs[0].node.op === 'weight' ? castFor(inputs[0], signal) : frozenFor(inputs[0], signal);
    return transpose(stored, (attrs as { perm: readonly number[] }).perm);
  }
  if (op === 'dequantize' || op === 'dequantizeFor')
    return dequantizeFor(inputs, signal, attrs as QuantAttrs);
  const isHalf = op === 'castFor' || (op === 'cast' && (attrs as { perUse: boolean }).perUse);
  return isHalf ? castFor(inputs[0], signal) : w;
}

/**
 * x·(W ∘ (B·A))ᵀ, or with `transB` false x·(W ∘ (B·A)), for W [out, in], A [r, in], B [out, r]. One op, so that nothing of
 * W's size lives from the forward pass to the backward one: there it is made again. No gradient reaches W.
 */
export const matmulHadamardOp: Op<{ transB: boolean }> = {
  infer: ([x, w, a, b], { transB }) => {
    const [out, width] = w.shape;
    const [inner, outer] = transB ? [width, out] : [out, width];
    if (x.shape.length !== 2 || x.shape[1] !== inner) throw new Error(`x must be [rows, ${inner}]`);
    if (a.shape[1] !== width || b.shape[0] !== out || a.shape[0] !== b.shape[1]) {
      throw new Error(`B·A is not [${out}, ${width}]`);
    }
    return [{ dtype: 'float32', shape: [x.shape[0], outer] }];
  },
  emit: (ctx, [x, w, a, b], { transB }, node) => {
    // Equal products of the two passes would be one to the engine, and stay.
    const one = ctx.opaqueOne(opaqueSignal(x, node.inputs[0]));
    const [size] = ctx.node('Mul', [ctx.shapeVector(node.inputs[3].shape), one]);
    const [factor] = ctx.node('MatMul', [ctx.node('Reshape', [b, size])[0], a]);
    const [scaled] = ctx.node('Mul', [w, factor]);
    return transB ? ctx.node('Gemm', [x, scaled], { transB: 1 }) : ctx.node('MatMul', [x, scaled]);
  },
  scratch: ([, w], _, sizeAt) => {
    const bytes = w.shape.reduce<number>((n, dim) => n * sizeAt(dim), 4);
    return [bytes, bytes];
  },
  // With D = W ∘ (gᵀ·x):  dx = g·(W ∘ (B·A)),  dA = Bᵀ·D,  dB = D·Aᵀ.
  vjp: ({ inputs: [x, w, a, b], attrs: { transB } }, [g]) => {
    if (!g) return [];
    const own = frozenFor(w, g);
    const product = transB ? matmul(g, x, { transA: true }) : matmul(x, g, { transA: true });
    const d = mul(own, product);
    return [
      apply('matmulHadamard', matmulHadamardOp, [g, own, a, b], { transB: !transB })[0],
      undefined,
      matmul(b, d, { transA: true }),
      matmul(d, a, { transB: true }),
    ];
  },
  reference: ([x, w, a, b], { transB }) => {
    const product = (left: typeof x, right: typeof x, transposed: boolean) =>
      matmulOp.reference([left, right], { transA: false, transB: transposed, alpha: 1 });
    const [scaled] = mulOp.reference([w, product(b, a, false)[0]], null);
    return product(x, scaled, transB);
  },
  samples: [true, false].map((transB) => ({
    attrs: { transB },
    inputs: [
      { dims: [5, transB ? 4 : 3] },
      { dims: [3, 4], constant: true },
      { dims: [2, 4] },
      { dims: [3, 2] },
    ],
  })),
};

export function matmulHadamard(x: Tensor, w: Tensor, a: Tensor, b: Tensor): Tensor {
  return apply('matmulHadamard', matmulHadamardOp, [x, frozenFor(w, x), a, b], { transB: true })[0];
}
