import type { F32Tensor } from '../base/tensor.js';

export interface AdamWOptions {
  betas: readonly [number, number];
  eps: number;
  /** Decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101). */
  weightDecay: number;
  /** Factor of the learning rate by tensor name; absent: 1. */
  learningRateFactor?: (name: string) => number;
}

/** AdamW as PyTorch computes it. State is kept for the trainable tensors only. */
export class AdamW {
  /** Updates done so far. */
  steps = 0;
  readonly first = new Map<string, Float32Array>();
  readonly second = new Map<string, Float32Array>();

  constructor(private readonly options: AdamWOptions) {}

  /** One update, in place. `factor` scales every gradient (clipping). */
  step(
    values: ReadonlyMap<string, F32Tensor>,
    grads: ReadonlyMap<string, F32Tensor>,
    learningRate: number,
    factor = 1,
  ): void {
    this.steps++;
    const { eps, weightDecay, learningRateFactor } = this.options;
    const [b1, b2] = this.options.betas;
    const correction = 1 / Math.sqrt(1 - b2 ** this.steps);
    const [gain1, gain2] = [(1 - b1) * factor, (1 - b2) * factor * factor];
    for (const [name, { data: g }] of grads) {
      const ownRate = learningRate * (learningRateFactor?.(name) ?? 1);
      const rate = ownRate / (1 - b1 ** this.steps);
      const decay = 1 - ownRate * weightDecay;
      const p = values.get(name)!.data;
      const m = moment(this.first, name, p.length);
      const v = moment(this.second, name, p.length);
      for (let i = 0; i < p.length; i++) {
        const gi = g[i];
        const mi = b1 * m[i] + gain1 * gi;
        const vi = b2 * v[i] + gain2 * gi * gi;
        m[i] = mi;
        v[i] = vi;
        p[i] = p[i] * decay - (rate * mi) / (Math.sqrt(vi) * correction + eps);
      }
    }
  }
}

function moment(moments: Map<string, Float32Array>, name: string, length: number): Float32Array {
  let m = moments.get(name);
  if (!m) {
    m = new Float32Array(length);
    moments.set(name, m);
  }
  return m;
}

/** √Σg² over all tensors. */
export function globalNorm(grads: Iterable<F32Tensor>): number {
  let total = 0;
  for (const { data } of grads) {
    let sum = 0;
    for (let i = 0; i < data.length; i++) sum += data[i] * data[i];
    total += sum;
  }
  return Math.sqrt(total);
}

/** Factor that brings gradients of norm `norm` to at most `maxNorm`, as torch.nn.utils.clip_grad_norm_; 0 = no limit. */
export function clipFactor(norm: number, maxNorm: number): number {
  return maxNorm > 0 ? Math.min(1, maxNorm / (norm + 1e-6)) : 1;
}

/** Adds gradients of a further micro-batch in place. */
export function accumulate(into: Map<string, F32Tensor>, more: ReadonlyMap<string, F32Tensor>): void {
  for (const [name, { data }] of more) {
    const sum = into.get(name)!.data;
    for (let i = 0; i < data.length; i++) sum[i] += data[i];
  }
}
