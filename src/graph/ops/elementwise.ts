import { broadcast } from '../../base/dims.js';
import { apply, type Op } from '../op.js';
import type { Tensor, TensorType } from '../tensor.js';
import { hostMap } from './host.js';
import { scalar } from './leaf.js';

type NoAttrs = null;
type BinaryVjp = (a: Tensor, b: Tensor, g: Tensor, y: Tensor) => [Tensor, Tensor];

function inferBroadcast([a, b]: readonly TensorType[]): TensorType[] {
  if (a.dtype !== b.dtype) throw new Error(`element types differ: ${a.dtype}, ${b.dtype}`);
  return [{ dtype: a.dtype, shape: broadcast(a.shape, b.shape) }];
}

function binary(onnx: string, fn: (a: number, b: number) => number, vjp: BinaryVjp): Op<NoAttrs> {
  return {
    infer: inferBroadcast,
    emit: (ctx, inputs) => ctx.node(onnx, inputs),
    vjp: ({ inputs: [a, b], outputs: [y] }, [g]) => (g ? vjp(a, b, g, y) : []),
    reference: (inputs) => [hostMap(inputs, fn)],
    samples: [
      { attrs: null, inputs: [{ dims: [2, 3] }, { dims: [2, 3], values: [1, 2, -3, 1.5, -2, 0.7] }] },
      { attrs: null, inputs: [{ dims: [2, 3] }, { dims: [3], values: [1.3, -2, 0.8] }] },
      { attrs: null, inputs: [{ dims: [2, 1] }, { dims: [4, 2, 3], values: positives(24) }] },
      { attrs: null, inputs: [{ dims: [2, 3] }, { dims: [], values: [2.5] }] },
    ],
  };
}

function unary(
  onnx: string,
  fn: (x: number) => number,
  vjp: (x: Tensor, g: Tensor, y: Tensor) => Tensor,
  values?: number[],
): Op<NoAttrs> {
  return {
    infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
    emit: (ctx, inputs) => ctx.node(onnx, inputs),
    vjp: ({ inputs: [x], outputs: [y] }, [g]) => [g && vjp(x, g, y)],
    reference: (inputs) => [hostMap(inputs, fn)],
    samples: [{ attrs: null, inputs: [{ dims: [2, 3], values }] }],
  };
}

const positives = (n: number): number[] => Array.from({ length: n }, (_, i) => 0.5 + ((i * 7) % 10) / 5);

export const addOp = binary(
  'Add',
  (a, b) => a + b,
  (_a, _b, g) => [g, g],
);
export const subOp = binary(
  'Sub',
  (a, b) => a - b,
  (_a, _b, g) => [g, neg(g)],
);
export const mulOp = binary(
  'Mul',
  (a, b) => a * b,
  (a, b, g) => [mul(g, b), mul(g, a)],
);
export const divOp = binary(
  'Div',
  (a, b) => a / b,
  (_a, b, g, y) => [div(g, b), neg(div(mul(g, y), b))],
);

export const negOp = unary(
  'Neg',
  (x) => -x,
  (_x, g) => neg(g),
);
export const expOp = unary('Exp', Math.exp, (_x, g, y) => mul(g, y));
export const logOp = unary('Log', Math.log, (x, g) => div(g, x), positives(6));
export const sqrtOp = unary('Sqrt', Math.sqrt, (_x, g, y) => div(mul(g, scalar(0.5)), y), positives(6));
export const tanhOp = unary('Tanh', Math.tanh, (_x, g, y) => mul(g, sub(scalar(1), mul(y, y))));
export const cosOp = unary('Cos', Math.cos, (x, g) => neg(mul(g, sin(x))));
export const sinOp = unary('Sin', Math.sin, (x, g) => mul(g, cos(x)));
/** The error function. erf'(x) = 2/√π · exp(-x²) */
export const erfOp = unary('Erf', erfOf, (x, g) =>
  mul(g, mul(scalar(2 / Math.sqrt(Math.PI)), exp(neg(mul(x, x))))),
);
export const sigmoidOp = unary('Sigmoid', sigmoidOf, (_x, g, y) => mul(g, mul(y, sub(scalar(1), y))));
/** log(1 + eˣ), which is -log σ(-x). */
export const softplusOp = unary(
  'Softplus',
  softplusOf,
  (x, g) => mul(g, sigmoid(x)),
  [1, -2, 30, -0.5, 0.7, -120],
);

/** -1, 0 or 1. It is flat, so nothing behind it gets a gradient through here. */
export const signOp: Op<NoAttrs> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (ctx, inputs) => ctx.node('Sign', inputs),
  vjp: () => [undefined],
  reference: (inputs) => [hostMap(inputs, Math.sign)],
  samples: [{ attrs: null, inputs: [{ dims: [2, 3], constant: true }] }],
};
export const reluOp = unary(
  'Relu',
  (x) => Math.max(0, x),
  (_x, g, y) => mul(g, sign(y)),
  [1, -2, 3, -0.5, 0.7, -1.2],
);

/** SiLU(x) = x·σ(x); one node on the CPU (QuickGelu with alpha 1), two elsewhere. */
export const siluOp: Op<NoAttrs> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (ctx, [x]) =>
    ctx.device === 'cpu'
      ? ctx.node('QuickGelu', [x], { alpha: { float: 1 } }, { domain: 'com.microsoft' })
      : ctx.node('Mul', [x, ctx.node('Sigmoid', [x])[0]]),
  // σ + y(1 - σ) = σ·(x - y) + σ
  vjp: ({ inputs: [x], outputs: [y] }, [g]) => {
    if (!g) return [];
    const s = sigmoid(x);
    return [mul(g, add(mul(sub(x, y), s), s))];
  },
  reference: (inputs) => [hostMap(inputs, (x) => x * sigmoidOf(x))],
  samples: [{ attrs: null, inputs: [{ dims: [2, 3] }] }],
};

/** x where the condition (bool) is true, y elsewhere; all three broadcast. */
export const whereOp: Op<NoAttrs> = {
  infer: ([condition, x, y]) => {
    const [{ dtype, shape }] = inferBroadcast([x, y]);
    return [{ dtype, shape: broadcast(condition.shape, shape) }];
  },
  emit: (ctx, inputs) => ctx.node('Where', inputs),
  vjp: ({ inputs: [condition] }, [g]) =>
    g ? [undefined, where(condition, g, scalar(0)), where(condition, scalar(0), g)] : [],
  reference: (inputs) => [hostMap(inputs, (c, x, y) => (c ? x : y))],
  samples: [
    {
      attrs: null,
      inputs: [
        { dims: [2, 2], dtype: 'bool', values: [1, 0, 0, 1], constant: true },
        { dims: [2, 2] },
        { dims: [2, 2] },
      ],
    },
    {
      attrs: null,
      inputs: [
        { dims: [2, 1], dtype: 'bool', values: [1, 0], constant: true },
        { dims: [2, 3] },
        { dims: [] },
      ],
    },
  ],
};

/** x, taken for a constant by the gradient: what lies behind it gets none through here. */
export const detachOp: Op<NoAttrs> = {
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (ctx, [x]) => ctx.node('Identity', [x]),
  vjp: () => [undefined],
  reference: (inputs) => [hostMap(inputs, (x) => x)],
  samples: [{ attrs: null, inputs: [{ dims: [2, 3], constant: true }] }],
};

/** By its Taylor series, which double precision sums up to |x| = 4; beyond, erf is ±1 to 8 digits. */
export function erfOf(x: number): number {
  if (Math.abs(x) > 4) return Math.sign(x);
  let [term, total] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-17; n++) {
    term *= -(x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

function softplusOf(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

function sigmoidOf(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

export const add = (a: Tensor, b: Tensor): Tensor => apply('add', addOp, [a, b], null)[0];
export const sub = (a: Tensor, b: Tensor): Tensor => apply('sub', subOp, [a, b], null)[0];
export const mul = (a: Tensor, b: Tensor): Tensor => apply('mul', mulOp, [a, b], null)[0];
export const div = (a: Tensor, b: Tensor): Tensor => apply('div', divOp, [a, b], null)[0];
export const neg = (x: Tensor): Tensor => apply('neg', negOp, [x], null)[0];
export const exp = (x: Tensor): Tensor => apply('exp', expOp, [x], null)[0];
export const log = (x: Tensor): Tensor => apply('log', logOp, [x], null)[0];
export const sqrt = (x: Tensor): Tensor => apply('sqrt', sqrtOp, [x], null)[0];
export const sigmoid = (x: Tensor): Tensor => apply('sigmoid', sigmoidOp, [x], null)[0];
export const softplus = (x: Tensor): Tensor => apply('softplus', softplusOp, [x], null)[0];
export const tanh = (x: Tensor): Tensor => apply('tanh', tanhOp, [x], null)[0];
export const cos = (x: Tensor): Tensor => apply('cos', cosOp, [x], null)[0];
export const sin = (x: Tensor): Tensor => apply('sin', sinOp, [x], null)[0];
export const erf = (x: Tensor): Tensor => apply('erf', erfOp, [x], null)[0];
export const silu = (x: Tensor): Tensor => apply('silu', siluOp, [x], null)[0];
export const sign = (x: Tensor): Tensor => apply('sign', signOp, [x], null)[0];
export const relu = (x: Tensor): Tensor => apply('relu', reluOp, [x], null)[0];
export const detach = (x: Tensor): Tensor => apply('detach', detachOp, [x], null)[0];
export const where = (condition: Tensor, x: Tensor, y: Tensor): Tensor =>
  apply('where', whereOp, [condition, x, y], null)[0];
