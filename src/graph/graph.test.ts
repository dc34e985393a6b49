import { afterAll, describe, expect, it } from 'vitest';
import { f32 } from '../base/tensor.js';
import { compile } from './emit.js';
import {
  add,
  addAt,
  concat,
  crossEntropy,
  expandTo,
  input,
  matmul,
  mul,
  scalar,
  sum,
  zerosLike,
} from './ops/index.js';
import { matmulOp } from './ops/matmul.js';
import { rewrite } from './rewrite.js';
import { NodeRuntime } from './runtime/node.js';
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
    const a = m('a', 2, 'past');
    expect(() => gradients(concat([a, a], 1), m('g', 2, '(past+past)'), [a])).toThrow('must be a fixed size');
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
    expect(opsOf([g])).toContain('addAt');
    expect(opsOf(rewrite([g]))).not.toContain('addAt');

    // The same gradient spelled so that the rewrite does not see it.
    const p = losses.node.outputs[1];
    const plain = matmul(add(mul(addAt(p, t, -1), scalar(0.5)), zerosLike(p)), e);
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

describe('sessions', () => {
  it('lend buffers without copying and bring them back, also after an error', async () => {
    const x = m('x', 'n');
    const session = await runtime.load(compile({ y: add(x, x) }));
    const feed = f32(Float32Array.of(1, 2), [2]);
    const { y } = await session.run({ x: feed }, ['x']);
    expect([...(y.data as Float32Array)]).toEqual([2, 4]);
    expect([...feed.data]).toEqual([1, 2]);
    const square = f32(Float32Array.of(1, 2), [1, 2]);
    await expect(session.run({ x: square }, ['x'])).rejects.toThrow('rank');
    expect([...square.data]).toEqual([1, 2]);
    await session.close();
  });
  it('queue runs that borrow the same buffer', async () => {
    const x = m('x', 'n');
    const session = await runtime.load(compile({ y: add(x, x) }));
    const feed = f32(Float32Array.of(1, 2), [2]);
    const runs = await Promise.all([1, 2, 3].map(() => session.run({ x: feed }, ['x'])));
    expect(runs.map(({ y }) => [...(y.data as Float32Array)])).toEqual([
      [2, 4],
      [2, 4],
      [2, 4],
    ]);
    await session.close();
  });
  it('hold feeds until they are replaced', async () => {
    const session = await runtime.load(compile({ y: mul(m('x', 1), m('k', 1)) }));
    const run = async () => [
      ...((await session.run({ x: f32(Float32Array.of(3), [1]) })).y.data as Float32Array),
    ];
    await session.hold({ k: f32(Float32Array.of(2), [1]) });
    expect(await run()).toEqual([6]);
    await session.hold({ k: f32(Float32Array.of(5), [1]) });
    expect(await run()).toEqual([15]);
    await session.close();
  });
});
