import { afterAll, describe, expect, it } from 'vitest';
import { type F32Tensor, f32, type HostTensor } from '../base/tensor.js';
import { compile } from './emit.js';
import { at } from './ops/host.js';
import {
  add,
  addmm,
  concat,
  constant,
  crossEntropy,
  detach,
  div,
  expandTo,
  input,
  matmul,
  mul,
  neg,
  scalar,
  scatterAddScalar,
  sqrt,
  sum,
  weight,
  zerosLike,
} from './ops/index.js';
import { matmulOp } from './ops/matmul.js';
import { rewrite, validate } from './rewrite.js';
import { NodeRuntime } from './runtime/node.js';
import { joinSiblings } from './siblings.js';
import { reachable, type Tensor } from './tensor.js';
import { gradients } from './vjp.js';

const runtime = new NodeRuntime();
afterAll(() => runtime.close());

const opsOf = (roots: Tensor[]) => reachable(roots).map((n) => n.op);
const m = (name: string, ...shape: (number | string)[]) => input(name, 'float32', shape);

describe('gradients', () => {
  it('visits only what lies between the loss and the trainable tensors', () => {
    const [x, w, a] = [m('x', 2, 3), m('w', 3, 3), m('a', 3, 2)];
    const y = matmul(matmul(x, w), a);
    const [g] = gradients(y, m('g', 2, 2), [a]);
    // Only (x·w)ᵀ·g: nothing flows back through w.
    expect(opsOf([g]).filter((op) => op === 'matmul')).toHaveLength(2);
  });
  it('sums the gradients of several uses and of broadcasts', () => {
    const a = m('a', 3);
    const y = add(mul(a, m('x', 2, 3)), a);
    const [g] = gradients(y, zerosLike(y), [a]);
    expect(g.shape).toEqual([3]);
    expect(opsOf([g]).filter((op) => op === 'sum')).toHaveLength(2);
  });
  it('says when a tensor has no influence', () => {
    const y = sum(m('x', 2), 0);
    expect(() => gradients(y, scalar(1), [m('other', 2)])).toThrow('no gradient reaches {"name":"other"');
  });
  it('says when an op on the way has no rule', () => {
    const [a, b, c] = [m('a', 2, 2), m('b', 2, 2), m('c', 2, 2)];
    expect(() => gradients(addmm(a, b, c, { transA: false, transB: false, alpha: 1 }), c, [a])).toThrow(
      'op "addmm" has no gradient',
    );
  });
  it('parts the gradient of what is joined along an axis of unknown size', () => {
    const [past, now] = [m('past', 2, 3), m('now', 2, 'seq')];
    const grads = gradients(concat([past, now], 1), m('g', 2, '(3+seq)'), [past, now]);
    expect(grads.map((g) => g.shape)).toEqual([past.shape, now.shape]);
  });
  it('explains shapes that do not fit', () => {
    expect(() => matmul(m('a', 2, 3), m('b', 2, 3))).toThrow(
      'matmul(float32[2, 3], float32[2, 3]): inner sizes 3 and 2 differ',
    );
  });
});

describe('rewrite', () => {
  it('makes equal nodes one', () => {
    const x = m('x', 2);
    const [y] = rewrite([add(mul(x, scalar(2)), mul(x, scalar(2)))]);
    expect(opsOf([y])).toEqual(['input', 'constant', 'mul', 'add']);
  });
  it('joins a product and a sum of matrices, unless the product is used elsewhere too', () => {
    const [x, w, u, b] = [m('x', 'n', 4), m('w', 4, 4), m('u', 'n', 2), m('b', 2, 4)];
    const low = matmul(u, b);
    expect(opsOf(rewrite([add(matmul(x, w), low)]))).toContain('addmm');
    const shared = [matmul(x, w), matmul(u, b)];
    expect(opsOf(rewrite([add(shared[0], shared[1]), ...shared]))).not.toContain('addmm');
  });
  it('turns products with a thin matrix, with the same result', async () => {
    const [x, b, y] = [m('x', 'n', 2), m('b', 5, 2), m('y', 'n', 5)];
    const up = matmul(x, b, { transB: true, alpha: 3 });
    const down = matmul(y, x, { transA: true });
    const graph = compile({ up, down });
    expect(opsOf(rewrite([up, down])).filter((op) => op === 'transpose')).toHaveLength(2);
    const session = await runtime.load(graph);
    const wave = (n: number, dims: number[]) =>
      f32(
        Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.3)),
        dims,
      );
    const [xs, bs, ys] = [wave(6, [3, 2]), wave(10, [5, 2]), wave(15, [3, 5])];
    const out = await session.run({ x: xs, b: bs, y: ys });
    await session.close();
    const plain = matmulOp.reference([xs, bs], { transA: false, transB: true, alpha: 3 })[0];
    const plainDown = matmulOp.reference([ys, xs], { transA: true, transB: false, alpha: 1 })[0];
    out.up.data.forEach((v, i) => expect(v).toBeCloseTo(Number(plain.data[i]), 5));
    expect(out.down.dims).toEqual([5, 2]);
    out.down.data.forEach((v, i) => expect(v).toBeCloseTo(Number(plainDown.data[i]), 5));
  });
  it('looks up rows instead of changing one element a row of the loss gradient, with the same result', async () => {
    const [h, e] = [m('h', 3, 4), m('e', 5, 4)];
    const t = input('t', 'int32', [3]);
    const losses = crossEntropy(matmul(h, e, { transB: true }), t);
    const [g] = gradients(losses, expandTo(scalar(0.5), losses), [h]);
    expect(opsOf([g])).toContain('scatterAddScalar');
    expect(opsOf(rewrite([g]))).not.toContain('scatterAddScalar');

    // The same gradient spelled so that the rewrite does not see it.
    const p = losses.node.outputs[1];
    const plain = matmul(add(mul(scatterAddScalar(p, t, -1), scalar(0.5)), zerosLike(p)), e);
    const graph = compile({ g, plain });
    const session = await runtime.load(graph);
    const wave = (n: number, dims: number[]) =>
      f32(
        Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.7)),
        dims,
      );
    const out = await session.run({
      h: wave(12, [3, 4]),
      e: wave(20, [5, 4]),
      t: { dtype: 'int32', dims: [3], data: Int32Array.of(4, 0, 2) },
    });
    await session.close();
    out.g.data.forEach((v, i) => expect(v).toBeCloseTo(Number(out.plain.data[i]), 5));
  });
});

describe('the loss behind a frozen head', () => {
  const [h, t] = [m('h', 'n', 4), input('t', 'int32', ['n'])];
  const frozen = weight({ name: 'e', shape: [5, 4], stored: 'float32', file: 'e', offset: 0, length: 80 });
  const lossOf = (matrix: Tensor) => {
    const logits = matmul(h, matrix, { transB: true });
    const losses = crossEntropy(logits, t);
    const [g] = gradients(losses, expandTo(scalar(0.5), losses), [h]);
    return { logits, losses, g };
  };
  it('is one node, that makes no logits of all rows', () => {
    const { losses, g } = lossOf(frozen);
    const roots = rewrite([losses, g]);
    validate(roots);
    const found = opsOf(roots).filter((op) => !['input', 'weight', 'constant'].includes(op));
    expect(found).toEqual(['headLoss', 'expand', 'reshape', 'mul']);
    expect(opsOf(rewrite([losses]))).toEqual(['input', 'input', 'weight', 'headLoss']);
  });
  it('stays as it is where the logits are asked for, or the matrix trains', () => {
    const { logits, losses, g } = lossOf(frozen);
    for (const roots of [
      [logits, losses, g],
      [losses.node.outputs[1], losses],
      Object.values(lossOf(m('e', 5, 4))),
    ])
      expect(opsOf(rewrite(roots))).toContain('crossEntropy');
  });
});

describe('joinSiblings', () => {
  const heights = [3, 5, 3, 4, 3, 5, 5];
  /** What a method could compute of its parameters at each site: √(rowsum(B·(A·Aᵀ) ∘ B)), and a division by it. */
  const sites = heights.map((out, i) => {
    const [a, b] = [m(`a${i}`, 2, 6), m(`b${i}`, out, 2)];
    const norms = sqrt(sum(mul(matmul(b, matmul(a, a, { transB: true })), b), 1));
    const y = mul(matmul(matmul(m('x', 'n', 6), a, { transB: true }), b, { transB: true }), detach(norms));
    return { norms, y, mean: div(sum(y, 0), norms) };
  });

  it('makes one node of what is computed of the parameters at each site, and of what only the caller uses', () => {
    const roots = sites.map(({ mean }) => mean);
    const before = opsOf(roots);
    const joined = joinSiblings(roots);
    validate(joined);
    const count = (ops: string[], op: string) => ops.filter((o) => o === op).length;
    expect(['sqrt', 'div', 'detach'].map((op) => count(before, op))).toEqual([7, 7, 7]);
    expect(['sqrt', 'div', 'detach'].map((op) => count(opsOf(joined), op))).toEqual([1, 1, 0]);
    // A·Aᵀ is one product for all; of B·(A·Aᵀ) there are too few of each shape. What sees data stays at its site.
    expect([count(before, 'matmul'), count(opsOf(joined), 'matmul')]).toEqual([4 * 7, 3 * 7 + 1]);
    // Sums of rows: one for all sites instead of seven, and those over the data.
    expect([count(before, 'sum'), count(opsOf(joined), 'sum')]).toEqual([14, 8]);
  });

  it('with the same results', async () => {
    const outputs = Object.fromEntries(
      sites.flatMap(({ norms, mean }, i) => [
        [`norms${i}`, norms],
        [`mean${i}`, mean],
      ]),
    );
    const graph = compile(outputs);
    const session = await runtime.load(graph);
    const wave = (n: number, dims: number[], k: number) =>
      f32(
        Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.3 + k)),
        dims,
      );
    const feeds: Record<string, F32Tensor> = { x: wave(24, [4, 6], 0) };
    heights.forEach((out, i) => {
      feeds[`a${i}`] = wave(12, [2, 6], i);
      feeds[`b${i}`] = wave(2 * out, [out, 2], 2 * i);
    });
    const out = await session.run(feeds);
    await session.close();
    const plain = { transA: false, transB: false, alpha: 1 };
    const product = (a: HostTensor, b: HostTensor, transB = false) =>
      matmulOp.reference([a, b], { ...plain, transB })[0];
    heights.forEach((height, i) => {
      const [a, b] = [feeds[`a${i}`], feeds[`b${i}`]];
      const c = product(b, product(a, a, true));
      const y = product(product(feeds.x, a, true), b, true);
      expect(out[`norms${i}`].dims).toEqual([height]);
      for (let row = 0; row < height; row++) {
        const norm = Math.sqrt([0, 1].reduce((t, j) => t + at(c, [row, j]) * at(b, [row, j]), 0));
        const total = [0, 1, 2, 3].reduce((t, j) => t + at(y, [j, row]) * norm, 0);
        expect(Number(out[`norms${i}`].data[row])).toBeCloseTo(norm, 4);
        expect(Number(out[`mean${i}`].data[row])).toBeCloseTo(total / norm, 4);
      }
    });
  });

  it('leaves what large operands or constants are made of', () => {
    const large = heights.map((_, i) => mul(m(`l${i}`, 2 ** 18), m(`k${i}`, 2 ** 18)));
    expect(opsOf(joinSiblings(large))).not.toContain('concat');
    const fixed = heights.map((_, i) => neg(constant(f32(Float32Array.of(i, 1), [2]))));
    expect(opsOf(joinSiblings(fixed))).not.toContain('concat');
  });
});
