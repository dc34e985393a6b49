import { describe, expect, it } from 'vitest';
import { arranged } from './emit.js';
import { bytesOf, memoryOf, runOrder } from './memory.js';
import { add, exp, input, matmul, neg, transpose } from './ops/index.js';
import type { Tensor } from './tensor.js';

const sizes = { n: 8 };
const ARRAY = 8 * 256 * 4;

function memory(...roots: Tensor[]) {
  const graph = arranged(roots);
  return memoryOf(runOrder(graph.nodes, graph.roots), graph.roots, sizes);
}

describe('memory of a graph', () => {
  const x = input('x', 'float32', ['n', 256]);

  it('counts sizes that are products and sums of named ones', () => {
    const at = { ...sizes, past: 3, seq: 5 };
    expect(bytesOf({ dtype: 'float32', shape: ['2*n', '(past+seq)'] }, at)).toBe(4 * 16 * 8);
    expect(bytesOf({ dtype: 'int64', shape: ['n*seq', '(3+2*seq)', 2] }, at)).toBe(8 * 40 * 13 * 2);
    expect(() => bytesOf({ dtype: 'bool', shape: ['rows'] }, at)).toThrow('no size is given for "rows"');
  });

  it('a value goes when its last user has run, and may be written over by that', () => {
    // neg and exp share one array; the transposed is a second one beside it.
    expect(memory(transpose(exp(neg(x)), [1, 0])).values).toBe(2 * ARRAY);
    // The first is needed again at the end: it waits while two others come and go.
    const kept = transpose(x, [1, 0]);
    const through = transpose(transpose(transpose(kept, [1, 0]), [1, 0]), [1, 0]);
    expect(memory(add(transpose(kept, [1, 0]), through)).values).toBe(3 * ARRAY);
  });

  it('results stay to the end, and what is fed is not counted', () => {
    expect(memory(transpose(x, [1, 0])).values).toBe(ARRAY);
    const [a, b] = [transpose(x, [1, 0]), exp(transpose(x, [1, 0]))];
    expect(memory(a, b).values).toBe(2 * ARRAY);
  });

  it('the engine goes back from its results: operands before users, the later made first', () => {
    const [first, second] = [transpose(x, [1, 0]), exp(x)];
    const { roots, nodes } = arranged([matmul(second, first)]);
    const order = runOrder(nodes, roots);
    const at = new Map(order.map((node, i) => [node, i]));
    for (const node of order)
      for (const t of node.inputs) expect(at.get(t.node)!).toBeLessThan(at.get(node)!);
    expect(order.map((node) => node.op).filter((op) => op !== 'input')).toEqual([
      'exp',
      'transpose',
      'matmul',
    ]);
  });
});
