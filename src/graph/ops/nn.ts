import { f32, type HostTensor } from '../../base/tensor.js';
import { apply, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { mul, neg, sub } from './elementwise.js';
import { at, hostFrom } from './host.js';
import { mean, sum } from './reduce.js';

/** Softmax over the last axis. */
export const softmaxOp: Op<null> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (ctx, inputs) => ctx.node('Softmax', inputs, { axis: -1 }),
  // dx = y ∘ g - y·Σ(y ∘ g)
  vjp: ({ outputs: [y] }, [g]) => {
    if (!g) return [];
    const t = mul(g, y);
    return [sub(t, mul(y, sum(t, -1, true)))];
  },
  reference: ([x]) => [
    rowwise(x, (row) => {
      const top = Math.max(...row);
      const e = row.map((v) => Math.exp(v - top));
      const total = e.reduce((a, v) => a + v, 0);
      return e.map((v) => v / total);
    }),
  ],
  samples: [{ attrs: null, inputs: [{ dims: [2, 3, 4] }] }],
};

export function softmax(x: Tensor): Tensor {
  return apply('softmax', softmaxOp, [x], null)[0];
}

/**
 * RMSNorm over the last axis (Zhang & Sennrich, arXiv:1910.07467): y = x / √(mean(x²) + ε) ∘ weight.
 * Second output: 1/rms, one value a row, which the gradient uses again.
 */
export const rmsNormOp: Op<{ epsilon: number }> = {
  infer: ([x]) => [
    { dtype: x.dtype, shape: x.shape },
    { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] },
  ],
  emit: (ctx, [x, w], { epsilon }) => {
    if (ctx.device === 'cpu') {
      return ctx.node(
        'SimplifiedLayerNormalization',
        [x, w],
        { axis: -1, epsilon: { float: epsilon } },
        { outputs: 2 },
      );
    }
    // The WebGPU provider's second output is wrong: primitives instead.
    const [square] = ctx.node('Mul', [x, x]);
    const [average] = ctx.node('ReduceMean', [square], { axes: [-1], keepdims: 1 });
    const [root] = ctx.node('Sqrt', ctx.node('Add', [average, ctx.scalar(epsilon)]));
    const [inv] = ctx.node('Div', [ctx.scalar(1), root]);
    const [unit] = ctx.node('Mul', [x, inv]);
    return [ctx.node('Mul', [unit, w])[0], inv];
  },
  // With t = g ∘ weight:  dx = inv·(t - x·inv²·mean(t ∘ x)),  and mean(t ∘ x)·inv = mean(g ∘ y).
  vjp: ({ inputs: [x, w], outputs: [y, inv] }, [g]) => {
    if (!g) return [];
    const c = mul(mean(mul(g, y), -1), inv);
    return [mul(sub(mul(g, w), mul(x, c)), inv), mul(g, mul(x, inv))];
  },
  reference: ([x, w], { epsilon }) => {
    const width = x.dims[x.dims.length - 1];
    const inv = hostFrom([...x.dims.slice(0, -1), 1], (index) => {
      let total = 0;
      for (let i = 0; i < width; i++) total += at(x, [...index.slice(0, -1), i]) ** 2;
      return 1 / Math.sqrt(total / width + epsilon);
    });
    return [hostFrom(x.dims, (i) => at(x, i) * at(inv, [...i.slice(0, -1), 0]) * at(w, i.slice(-1))), inv];
  },
  samples: [
    { attrs: { epsilon: 1e-5 }, inputs: [{ dims: [3, 4] }, { dims: [4] }] },
    { attrs: { epsilon: 1e-2 }, inputs: [{ dims: [2, 3, 4] }, { dims: [4] }] },
  ],
};

export function rmsNorm(x: Tensor, weight: Tensor, epsilon: number): Tensor {
  return apply('rmsNorm', rmsNormOp, [x, weight], { epsilon })[0];
}

/**
 * Rotary position embedding (Su et al., arXiv:2104.09864), halves layout as in Llama checkpoints.
 * x: [batch, heads, seq, size]; positions: int64 [batch, seq]; cos, sin: [positions, size/2].
 */
export const ropeOp: Op<null> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (ctx, inputs) => ctx.node('RotaryEmbedding', inputs, {}, { domain: 'com.microsoft' }),
  // A rotation's transpose turns the other way.
  vjp: ({ inputs: [, positions, cos, sin] }, [g]) => [g && rope(g, positions, cos, neg(sin))],
  reference: ([x, positions, cos, sin]) => [
    hostFrom(x.dims, ([b, h, s, i]) => {
      const half = x.dims[3] / 2;
      const j = i % half;
      const p = at(positions, [b, s]);
      const other = at(x, [b, h, s, i < half ? i + half : j]);
      return at(x, [b, h, s, i]) * at(cos, [p, j]) + (i < half ? -1 : 1) * other * at(sin, [p, j]);
    }),
  ],
  samples: [
    {
      attrs: null,
      inputs: [
        { dims: [2, 2, 3, 8] },
        { dims: [2, 3], dtype: 'int64', values: [0, 1, 2, 1, 3, 2], constant: true },
        { dims: [4, 4], constant: true },
        { dims: [4, 4], constant: true },
      ],
    },
  ],
};

export function rope(x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor): Tensor {
  return apply('rope', ropeOp, [x, positions, cos, sin], null)[0];
}

function rowwise(x: HostTensor, fn: (row: number[]) => number[]): HostTensor {
  const width = x.dims[x.dims.length - 1];
  const data = new Float32Array(x.data.length);
  for (let at = 0; at < data.length; at += width) {
    data.set(fn(Array.from(x.data.slice(at, at + width) as Float32Array)), at);
  }
  return f32(data, x.dims);
}
