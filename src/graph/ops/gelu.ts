import { apply, type EmitContext, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { add, erf, erfOf, exp, mul, neg, sub, tanh } from './elementwise.js';
import { hostMap } from './host.js';
import { scalar } from './leaf.js';

/** As PyTorch names them: x·Φ(x) itself, or with tanh in the place of erf (GPT-2's, BERT's "gelu_new"). */
export type GeluApproximation = 'none' | 'tanh';

const ROOT_HALF = Math.SQRT1_2;
const SCALE = Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

/** Gaussian error linear unit (Hendrycks & Gimpel, arXiv:1606.08415), elementwise. */
export const geluOp: Op<{ approximate: GeluApproximation }> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (ctx, [x], { approximate }) => {
    if (ctx.device === 'cpu') {
      return ctx.node(approximate === 'none' ? 'Gelu' : 'FastGelu', [x], {}, { domain: 'com.microsoft' });
    }
    const inner = approximate === 'none' ? emitErf(ctx, x) : emitTanh(ctx, x);
    const [factor] = ctx.node('Mul', [ctx.node('Add', [inner, ctx.scalar(1)])[0], ctx.scalar(0.5)]);
    return ctx.node('Mul', [x, factor]);
  },
  vjp: ({ inputs: [x], attrs: { approximate } }, [g]) => {
    if (!g) return [];
    const square = mul(x, x);
    if (approximate === 'none') {
      // Φ(x) + x·φ(x)
      const cdf = mul(add(erf(mul(x, scalar(ROOT_HALF))), scalar(1)), scalar(0.5));
      const density = mul(exp(neg(mul(square, scalar(0.5)))), scalar(1 / Math.sqrt(2 * Math.PI)));
      return [mul(g, add(cdf, mul(x, density)))];
    }
    // With t = tanh(u): (1 + t)/2 + x/2·(1 - t²)·u'
    const u = mul(mul(x, scalar(SCALE)), add(mul(square, scalar(CUBIC)), scalar(1)));
    const slope = mul(add(mul(square, scalar(3 * CUBIC)), scalar(1)), scalar(SCALE));
    const t = tanh(u);
    const bend = mul(mul(x, slope), sub(scalar(1), mul(t, t)));
    return [mul(g, mul(add(add(t, scalar(1)), bend), scalar(0.5)))];
  },
  reference: (inputs, { approximate }) => [
    hostMap(inputs, (x) => {
      const inner = approximate === 'none' ? erfOf(x * ROOT_HALF) : Math.tanh(SCALE * (x + CUBIC * x ** 3));
      return 0.5 * x * (1 + inner);
    }),
  ],
  samples: (['none', 'tanh'] as const).map((approximate) => ({
    attrs: { approximate },
    inputs: [{ dims: [2, 3], values: [0, 1, -1, 2.5, -3, 0.3] }],
  })),
};

export function gelu(x: Tensor, approximate: GeluApproximation = 'none'): Tensor {
  return apply('gelu', geluOp, [x], { approximate })[0];
}

function emitErf(ctx: EmitContext, x: string): string {
  return ctx.node('Erf', ctx.node('Mul', [x, ctx.scalar(ROOT_HALF)]))[0];
}

function emitTanh(ctx: EmitContext, x: string): string {
  const [square] = ctx.node('Mul', [x, x]);
  const [cubic] = ctx.node('Mul', [square, ctx.scalar(CUBIC)]);
  const [scaled] = ctx.node('Mul', [x, ctx.scalar(SCALE)]);
  return ctx.node('Tanh', ctx.node('Mul', [scaled, ctx.node('Add', [cubic, ctx.scalar(1)])[0]]))[0];
}
