import { f32, type HostTensor } from '../../base/tensor.js';
import { apply, type Op } from '../op.js';
import type { Tensor } from '../tensor.js';
import { mul, neg, sub } from './elementwise.js';
import { at, hostFrom } from './host.js';
import { sum } from './reduce.js';

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
