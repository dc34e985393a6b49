import { afterAll, describe, expect, it } from 'vitest';
import { Rng } from '../base/rng.js';
import { f32 } from '../base/tensor.js';
import { compile } from './emit.js';
import { memoryOf, runOrder } from './memory.js';
import {
  add,
  constant,
  grouped,
  input,
  joined,
  matmul,
  mul,
  parts,
  rearrange,
  reshape,
  scalar,
  silu,
  slice,
  sum,
  topK,
} from './ops/index.js';
import { NodeRuntime } from './runtime/node.js';
import { reachable, type Tensor } from './tensor.js';
import { gradients } from './vjp.js';

// Rows go to their groups, some matrices each, and come back; against every group's matrices over every row.

const runtime = new NodeRuntime();
afterAll(() => runtime.close());

const [N, D, K] = [5, 4, 2];
const NAMES = ['none', 'some', 'one', 'others'];
const group = (e: number) => ({
  w: input(`w${e}`, 'float32', [D, D]),
  bias: input(`bias${e}`, 'float32', [D]),
  a: input(`a${e}`, 'float32', [2, D]),
});
const groups = NAMES.map((_, e) => group(e));
const trained = groups.flatMap(({ bias, a }) => [bias, a]);
const [x, scores, seed] = [
  input('x', 'float32', ['n', D]),
  input('scores', 'float32', ['n', NAMES.length]),
  input('seed', 'float32', ['n', D]),
];

function layer(rows: Tensor, e: number): Tensor {
  const { w, bias, a } = groups[e];
  const low = matmul(matmul(rows, a, { transB: true }), a);
  return silu(add(add(matmul(rows, w, { transB: true }), bias), low));
}

function byParts(): Tensor {
  const { values, index } = topK(scores, K);
  const { order, rows, places, sizes } = grouped(index, NAMES.length);
  const spread = rearrange(x, rows, places);
  const outputs = parts(spread, sizes, NAMES).map(layer);
  const all = joined(outputs, sizes, { names: NAMES, whole: spread.shape[0] });
  const back = reshape(rearrange(all, places, order), ['n', K, D]);
  return sum(mul(back, reshape(values, ['n', K, 1])), 1);
}

/** The same with the scores that were chosen, and 0 for the others, given. */
function dense(): Tensor {
  const chosen = mul(scores, input('chosen', 'float32', ['n', NAMES.length]));
  return NAMES.map((_, e) => mul(layer(x, e), slice(chosen, 1, e, 1))).reduce(add);
}

describe('parts of learned sizes', () => {
  const wrt = [...trained, x, scores];
  const outputsOf = (y: Tensor) =>
    Object.fromEntries([y, ...gradients(y, seed, wrt)].map((t, i) => [`out${i}`, t]));

  it.each([
    ['rows in every group', [1, 2, 3, 1, 2]],
    ['two groups without rows', [1, 1, 1, 1, 1]],
  ])('%s: values and gradients are those of every group over every row', async (_, first) => {
    const rng = new Rng(5, 'experts');
    const normals = (...dims: number[]) =>
      f32(
        Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => rng.normal()),
        dims,
      );
    const chosen = new Float32Array(N * NAMES.length);
    const points = new Float32Array(N * NAMES.length);
    for (const [row, e] of first.entries()) {
      for (const [place, at] of [e, 3].entries()) {
        chosen[row * NAMES.length + at] = 1;
        points[row * NAMES.length + at] = e === 3 ? 2 : 1 + 0.1 * row + 0.2 * place;
      }
      if (e === 3) chosen[row * NAMES.length] = 1;
    }
    const feeds = {
      x: normals(N, D),
      seed: normals(N, D),
      scores: f32(points, [N, NAMES.length]),
      chosen: f32(chosen, [N, NAMES.length]),
      ...Object.fromEntries(
        groups.flatMap((_, e) => [
          [`w${e}`, normals(D, D)],
          [`bias${e}`, normals(D)],
          [`a${e}`, normals(2, D)],
        ]),
      ),
    };
    const [got, expected] = await Promise.all(
      [byParts(), dense()].map(async (y) => {
        const graph = compile(outputsOf(y));
        const session = await runtime.load(graph);
        const asked = new Set(graph.inputs.map(({ name }) => name));
        const out = await session.run(
          Object.fromEntries(Object.entries(feeds).filter(([n]) => asked.has(n))),
        );
        await session.close();
        return out;
      }),
    );
    for (const name of Object.keys(expected)) {
      expect(got[name].dims, name).toEqual(expected[name].dims);
      const [a, b] = [got[name].data, expected[name].data].map((data) => Array.from(data as Float32Array));
      const off = Math.max(...a.map((v, i) => Math.abs(v - b[i])));
      expect(off, `${name}: ${a} for ${b}`).toBeLessThan(1e-4);
    }
  });

  it('a gradient that reaches some of the parts only', () => {
    const { sizes } = grouped(topK(scores, 1).index, 2);
    const [first] = parts(x, sizes, ['first', 'second']);
    const [g] = gradients(first, input('g', 'float32', ['first', D]), [x]);
    expect(g.shape).toEqual(['n', D]);
    expect(reachable([g]).filter(({ op }) => op === 'expand')).toHaveLength(1);
  });

  it('are forecast as equally many rows each', () => {
    const { sizes } = grouped(topK(scores, 1).index, 2);
    const y = joined(
      parts(mul(x, scalar(2)), sizes, ['first', 'second']).map((part) =>
        matmul(part, constant(f32(new Float32Array(D * 100), [D, 100]))),
      ),
      sizes,
      { names: ['first', 'second'], whole: 'n' },
    );
    const nodes = reachable([y]);
    const at = (n: number) => memoryOf(runOrder(nodes, [y]), [y], { n }).values;
    expect(at(2000) / at(1000)).toBeCloseTo(2, 1);
    expect(at(1000)).toBeGreaterThan(1000 * 100 * 4 * 2);
  });
});
