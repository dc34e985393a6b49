/** Normalizations over the last axis. */
import type { HostTensor } from '../../base/tensor.js';
import { apply, type Op } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { mul, sub } from './elementwise.js';
import { at, hostFrom } from './host.js';
import { mean } from './reduce.js';

/**
 * RMSNorm over the last axis (Zhang & Sennrich, arXiv:1910.07467): y = x / √(mean(x²) + ε) ∘ weight.
 * Second output: 1/rms, one value a row, which the gradient uses again.
 */
export const rmsNormOp: Op<{ epsilon: number }> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }, perRow(x)],
  emit: (ctx, [x, w], { epsilon }) => {
    if (ctx.device === 'cpu') {
      return ctx.node(
        'SimplifiedLayerNormalization',
        [x, w],
        { axis: -1, epsilon: { float: epsilon } },
        { outputs: 2 },
      );
    }
    if (ctx.device === 'any')
      return ctx.node('SimplifiedLayerNormalization', [x, w], { axis: -1, epsilon: { float: epsilon } });
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
 * LayerNorm over the last axis (Ba et al., arXiv:1607.06450): y = x̂ ∘ weight + bias with x̂ = (x − mean) / √(variance + ε).
 * Further outputs, which the gradient uses again: the mean and 1/√(variance + ε), one value a row.
 */
export const layerNormOp: Op<{ epsilon: number }> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }, perRow(x), perRow(x)],
  emit: (ctx, [x, w, b], { epsilon }) => {
    if (ctx.device === 'cpu') {
      return ctx.node(
        'LayerNormalization',
        [x, w, b],
        { axis: -1, epsilon: { float: epsilon } },
        { outputs: 3 },
      );
    }
    if (ctx.device === 'any')
      return ctx.node('LayerNormalization', [x, w, b], { axis: -1, epsilon: { float: epsilon } });
    // As for rmsNorm: the further outputs are not to be trusted there.
    const [average] = ctx.node('ReduceMean', [x], { axes: [-1], keepdims: 1 });
    const [centred] = ctx.node('Sub', [x, average]);
    const [square] = ctx.node('Mul', [centred, centred]);
    const [variance] = ctx.node('ReduceMean', [square], { axes: [-1], keepdims: 1 });
    const [root] = ctx.node('Sqrt', ctx.node('Add', [variance, ctx.scalar(epsilon)]));
    const [inv] = ctx.node('Div', [ctx.scalar(1), root]);
    const [scaled] = ctx.node('Mul', [ctx.node('Mul', [centred, inv])[0], w]);
    return [ctx.node('Add', [scaled, b])[0], average, inv];
  },
  // With t = g ∘ weight:  dx = inv·(t − mean(t) − x̂·mean(t ∘ x̂)).
  vjp: ({ inputs: [x, w], outputs: [, average, inv] }, [g]) => {
    if (!g) return [];
    const unit = mul(sub(x, average), inv);
    const t = mul(g, w);
    const dx = mul(sub(sub(t, mean(t, -1)), mul(unit, mean(mul(t, unit), -1))), inv);
    return [dx, mul(g, unit), g];
  },
  reference: ([x, w, b], { epsilon }) => {
    const width = x.dims[x.dims.length - 1];
    const ofRow = (value: (row: number[]) => number) =>
      hostFrom([...x.dims.slice(0, -1), 1], (index) =>
        value(Array.from({ length: width }, (_, i) => at(x, [...index.slice(0, -1), i]))),
      );
    const meanOf = (row: readonly number[]) => row.reduce((a, v) => a + v, 0) / width;
    const average = ofRow(meanOf);
    const inv = ofRow((row) => {
      const centre = meanOf(row);
      return 1 / Math.sqrt(meanOf(row.map((v) => (v - centre) ** 2)) + epsilon);
    });
    const of = (t: HostTensor, i: readonly number[]) => at(t, [...i.slice(0, -1), 0]);
    const y = hostFrom(x.dims, (i) => {
      const unit = (at(x, i) - of(average, i)) * of(inv, i);
      return unit * at(w, i.slice(-1)) + at(b, i.slice(-1));
    });
    return [y, average, inv];
  },
  samples: [
    { attrs: { epsilon: 1e-5 }, inputs: [{ dims: [3, 4] }, { dims: [4] }, { dims: [4] }] },
    { attrs: { epsilon: 1e-2 }, inputs: [{ dims: [2, 3, 4] }, { dims: [4] }, { dims: [4] }] },
  ],
};

/** x: [..., d]; weight and bias: [d]. */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: number): Tensor {
  return apply('layerNorm', layerNormOp, [x, weight, bias], { epsilon })[0];
}

function perRow({ dtype, shape }: TensorType): TensorType {
  return { dtype, shape: [...shape.slice(0, -1), 1] };
}
